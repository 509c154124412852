"""Weights in bfloat16, optimiser in float32: master copies that take the gradients and give the weights.

A bfloat16 weight has 8 bits of mantissa: an update below about 1/256 of the weight is rounded away,
and at the learning rates of reinforcement learning that is nearly every update. The optimiser therefore
moves a float32 copy, and gradients of micro-batches add up in float32 (mixed precision of Micikevicius
et al. 2018, arXiv:1710.03740, without loss scaling, which bfloat16's range makes needless). Under
FSDP2 the sharded parameters are the float32 copies, and its MixedPrecisionPolicy does the rest.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

PRECISIONS = ("float32", "bfloat16")


def cast_weights(parameters: Iterable[Parameter], precision: str) -> None:
    """Converts floating-point parameters in place; buffers, which these are not, keep their type.

    `module.to(bfloat16)` would also round the rotary frequencies, which are a buffer: at position
    1,000 the fastest angles are then off by radians.

    Args:
        parameters: What to convert.
        precision: "float32" or "bfloat16".
    """
    dtype = getattr(torch, precision)
    for parameter in parameters:
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


class MasterWeights:
    """Float32 copies of parameters, and the float32 sums of their gradients.

    Each gradient that a backward pass completes is added to its sum and freed at once, so two sets of
    gradients never exist.

    Args:
        parameters: What is trained. The copies are taken first, then these are converted in place.
        precision: What the parameters become.
        is_offloaded: Copies, and so the optimiser's moments, live in main memory; gradients add up on
            the device and move once per optimiser step.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        precision: str = "bfloat16",
        is_offloaded: bool = False,
    ) -> None:
        self.parameters = list(parameters)
        self.copies = [Parameter(_copy(p, is_offloaded)) for p in self.parameters]
        cast_weights(self.parameters, precision)
        self._sums: list[Tensor | None] = [None] * len(self.parameters)
        for i, parameter in enumerate(self.parameters):
            parameter.register_post_accumulate_grad_hook(self._taker(i))  # type: ignore[no-untyped-call]

    def hand_over(self) -> None:
        """Makes the sums the gradients of the copies, for the optimiser; the sums start anew."""
        for copy, total in zip(self.copies, self._sums, strict=True):
            copy.grad = None if total is None else total.to(copy.device)
        self._sums = [None] * len(self.parameters)

    @torch.no_grad()
    def write_back(self) -> None:
        """Rounds the copies into the parameters."""
        for parameter, copy in zip(self.parameters, self.copies, strict=True):
            parameter.copy_(copy, non_blocking=True)
            copy.grad = None

    @torch.no_grad()
    def read_back(self) -> None:
        """Takes the copies anew from the parameters: other weights have been loaded into them."""
        for parameter, copy in zip(self.parameters, self.copies, strict=True):
            copy.copy_(parameter)

    def forget_gradients(self) -> None:
        """Drops the sums: the update is not made."""
        self._sums = [None] * len(self.parameters)
        for copy in self.copies:
            copy.grad = None

    def _taker(self, i: int) -> Callable[[Tensor], None]:
        def take(parameter: Tensor) -> None:
            assert parameter.grad is not None
            total = self._sums[i]
            if total is None:
                self._sums[i] = parameter.grad.float()
            else:
                total.add_(parameter.grad)  # float32 += bfloat16, in float32
            parameter.grad = None

        return take


def _copy(parameter: Parameter, is_offloaded: bool) -> Tensor:
    copy = parameter.detach().to(torch.float32, copy=True)
    if not is_offloaded:
        return copy
    copy = copy.cpu()
    return copy.pin_memory() if parameter.is_cuda else copy
