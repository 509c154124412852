"""torchrun's environment in, a `World` out: who this rank is, how ranks talk, how weights are sharded.

One process per device, all data parallel. Numbers and objects travel over gloo, weights over NCCL on
GPUs and gloo on CPUs. A world of one opens no process group, and every method works there too.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LAUNCH_HINT = "Start the run with `torchrun --nproc-per-node N -m maskgym train ...`."


class LostRankError(RuntimeError):
    """Another rank died, or did not come to a common call in time; this run cannot go on."""


class World:
    """The ranks of a run, seen from one of them.

    `sum`, `max`, `gather`, `broadcast`, `barrier`, `shard` and `full_tensor` are common calls: every
    rank makes them in the same order, or all wait until the timeout.
    """

    def __init__(
        self, *, rank: int = 0, size: int = 1, device: torch.device | str | None = None
    ) -> None:
        """A world of one; `open_world` makes larger ones."""
        self.rank = rank
        self.size = size
        self.device = torch.device(device) if device is not None else _default_device()
        self._mesh: DeviceMesh | None = None

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and reports."""
        return self.rank == 0

    @property
    def mesh(self) -> DeviceMesh:
        """The one-dimensional mesh that weights are sharded over; needs two ranks or more."""
        if self._mesh is None:
            self._mesh = init_device_mesh(self.device.type, (self.size,))
        return self._mesh

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64; the same bits on every rank."""
        total = torch.tensor(values, dtype=torch.float64)
        if self.size > 1:
            with self._common_call("sum"):
                dist.all_reduce(total, op=dist.ReduceOp.SUM)
        return [float(value) for value in total]

    def max(self, value: int) -> int:
        """The largest value of any rank."""
        largest = torch.tensor(value, dtype=torch.int64)
        if self.size > 1:
            with self._common_call("max"):
                dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return int(largest)

    def gather(self, value: Any) -> list[Any]:
        """The objects of all ranks in rank order, on every rank; they travel pickled."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with self._common_call("gather"):
                dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The object of rank 0, on every rank."""
        values = [value]
        if self.size > 1:
            with self._common_call("broadcast"):
                dist.broadcast_object_list(values, src=0)
        return values[0]

    def barrier(self) -> None:
        """Returns when every rank has called it."""
        self.max(0)

    def shard(
        self,
        scorer: nn.Module,
        *,
        precision: str = "float32",
        offload: bool = False,
        reshard_after_forward: bool = True,
    ) -> None:
        """Shards the weights over the ranks in place (FSDP2); in a world of one, nothing.

        Each decoder layer is gathered when it runs; what is outside the layers (embedding, last norm,
        head) is gathered by the root's own `forward`. Every rank starts from rank 0's weights.
        Gradients are SUMMED over ranks, not averaged: the weights of the loss count the tokens of all
        ranks already. Call it before the optimiser is built: it must hold the sharded parameters.

        Args:
            scorer: The root; the whole computation is inside its `forward`.
            precision: "bfloat16" keeps float32 shards (the master weights), computes on bfloat16
                copies and sums gradients in float32; "float32" does all in float32.
            offload: Whether shards, gradients and so the optimiser's states live in the CPU's memory.
            reshard_after_forward: Whether a layer's weights are freed between forward and backward
                and gathered again; False is faster and holds the whole model in each backward pass.

        Raises:
            ValueError: If the ranks hold different models.
        """
        if self.size == 1:
            return
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision is {precision!r}; it is 'float32' or 'bfloat16'.")
        self._share_weights(scorer)
        policy = MixedPrecisionPolicy()
        if precision == "bfloat16":
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        offloading = CPUOffloadPolicy(pin_memory=self.device.type == "cuda")
        for unit in [*decoder_layers(scorer), scorer]:
            for parameter in unit.parameters():
                # Frozen weights need no master; a layer at a time, so that no second model exists.
                if parameter.requires_grad and not isinstance(parameter, DTensor):
                    parameter.data = parameter.data.float()
            fully_shard(
                unit,
                mesh=self.mesh,
                mp_policy=policy,
                offload_policy=offloading if offload else OffloadPolicy(),
                # None: the root keeps its weights, which the backward pass wants first.
                reshard_after_forward=None if unit is scorer else reshard_after_forward,
            )
        for module in scorer.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                # Without it a divisor other than the number of ranks is an operation of NCCL only.
                module.set_force_sum_reduction_for_comms(True)

    def clip_gradients(self, parameters: Iterable[Tensor], max_norm: float) -> float:
        """Scales gradients down to `max_norm` in place; returns the norm that they had.

        The norm is that of the gradient of the whole model, over all ranks, and the same on each of
        them. Gradients that are not finite are left as they are.
        """
        gradients = [_local(p.grad) for p in parameters if p.grad is not None]
        gradients = [gradient for gradient in gradients if gradient.numel()]
        square = 0.0
        if gradients:
            # In float64: float32 sums differ by 3e-6 between one rank and two, seen on a tiny model.
            norms = torch.stack(torch._foreach_norm(gradients, dtype=torch.float64))
            square = float(norms.square().sum())
        norm: float = self.sum([square])[0] ** 0.5
        scale = max_norm / (norm + 1e-6)
        if scale < 1:  # False for NaN
            torch._foreach_mul_(gradients, scale)
        return norm

    def full_tensor(self, tensor: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """The whole of a sharded tensor on this rank's device; any other tensor as it is.

        Args:
            tensor: A parameter, a gradient or a state of the optimiser.
            dtype: What it is cast to before it travels; None keeps its own.
        """
        tensor = tensor.detach()
        if isinstance(tensor, DTensor):
            # An offloaded shard is sent from the device: gloo would take ten times as long.
            tensor = tensor.to(device=self.device, dtype=dtype or tensor.dtype)
            with self._common_call("full_tensor"):
                whole: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
                return whole
        return tensor if dtype is None else tensor.to(dtype)

    def _share_weights(self, module: nn.Module) -> None:
        """Copies those of rank 0's parameters and buffers to all ranks that differ between them.

        Weights drawn at random, such as new adapters, would otherwise stay different unseen.
        """
        tensors = [*module.named_parameters(), *module.named_buffers()]
        shapes = {name: (tuple(t.shape), str(t.dtype), t.requires_grad) for name, t in tensors}
        for rank, other in enumerate(self.gather(shapes)):
            odd = sorted(n for n in {*shapes, *other} if shapes.get(n) != other.get(n))
            if odd:
                raise ValueError(
                    f"Rank {rank} holds another model than rank {self.rank}: {len(odd)} tensors "
                    f"differ, first {odd[0]!r} ({other.get(odd[0])} and {shapes.get(odd[0])}). Give "
                    "every rank the same model folder and configuration."
                )
        # Weights that all read from the same file need not travel.
        with torch.no_grad():
            own = [float(tensor.sum(dtype=torch.float64)) for _, tensor in tensors]
        checksums = self.gather(own)
        with self._common_call("shard"), torch.no_grad():
            for (_, tensor), sums in zip(tensors, zip(*checksums, strict=True), strict=True):
                if any(other != sums[0] for other in sums):
                    dist.broadcast(tensor.data, src=0)

    @contextmanager
    def _common_call(self, name: str) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._lost(name, error) from error

    def _lost(self, name: str, error: RuntimeError) -> LostRankError:
        return LostRankError(
            f"Rank {self.rank} of {self.size} waited in {name!r} for a rank that died or did not come "
            "in time. The first error in the output of the other ranks says why; the run resumes from "
            f"its last checkpoint. ({str(error).splitlines()[0]})"
        )


@contextmanager
def open_world(
    device: torch.device | str | None = None, *, timeout_s: float = 1800.0
) -> Iterator[World]:
    """The world that torchrun started this process in, or a world of one; closed at the end.

    Args:
        device: "cpu" or "cuda"; None takes the GPU of this rank where there is one.
        timeout_s: How long a rank waits for the others in a common call. It must be longer than the
            slowest rank's rollouts exceed the fastest's. A rank that dies is noticed at once.

    Raises:
        ValueError: If torchrun's variables are incomplete, or there are fewer GPUs than ranks.
        LostRankError: From within, if another rank died.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    missing = [name for name in TORCHRUN_VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(f"WORLD_SIZE is {size}, and {', '.join(missing)} is unset. {LAUNCH_HINT}")
    place = _device_of_rank(device, int(os.environ["LOCAL_RANK"]))
    is_cuda = place.type == "cuda"
    if is_cuda:
        torch.cuda.set_device(place)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if is_cuda else "gloo", timeout=timedelta(seconds=timeout_s)
    )
    is_whole = False
    world = World(rank=dist.get_rank(), size=size, device=place)
    try:
        yield world
        world.barrier()  # a rank that leaves would close connections that another still uses
        is_whole = True
    except RuntimeError as error:
        # Passes of a sharded model wait for other ranks too, inside PyTorch.
        is_lost = isinstance(error, dist.DistError) or "gloo" in str(error)
        if is_lost and not isinstance(error, LostRankError):
            raise world._lost("a pass of the model", error) from error
        raise
    finally:
        # After an error NCCL could wait here for a rank that never comes; the process ends anyway,
        # and torchrun then stops the others.
        if dist.is_initialized() and (is_whole or not is_cuda):
            dist.destroy_process_group()


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a Transformers model, by the names that it gives itself."""
    names = {n for m in model.modules() for n in getattr(m, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device_of_rank(device: torch.device | str | None, local_rank: int) -> torch.device:
    kind = torch.device(device).type if device is not None else _default_device().type
    if kind != "cuda":
        return torch.device(kind)
    if local_rank >= (found := torch.cuda.device_count()):
        raise ValueError(
            f"Local rank {local_rank} has no GPU: this machine shows {found}. Start one rank per GPU "
            "(`--nproc-per-node`), or give device='cpu'."
        )
    return torch.device("cuda", local_rank)
