"""Micro-batches through the model, one after the other: equally many on every rank, split when too large."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch

from ..distributed import World
from ..rollouts.trajectory import TokenSequence
from .packing import MicroBatch, micro_batches
from .sample import Sample
from .scorer import TokenScorer
from .step_stats import Sums, combined

DUMMY = Sample(sequence=TokenSequence(ids=(0, 0), loss_mask=(0, 1), logprobs=(0.0, 0.0)))


class Passes:
    """Makes micro-batches and runs them."""

    def __init__(self, world: World, *, max_tokens: int, packing: str, share_prompts: bool) -> None:
        self.world = world
        self.max_tokens = max_tokens
        self.packing = packing
        self.share_prompts = share_prompts

    def pack(self, samples: Sequence[Sample]) -> list[MicroBatch]:
        """The micro-batches of samples."""
        return micro_batches(
            samples,
            max_tokens=self.max_tokens,
            packing=self.packing,
            share_prompts=self.share_prompts,
            device=self.world.device,
        )

    def run(
        self,
        scorer: TokenScorer,
        samples: Sequence[Sample],
        batches: Sequence[MicroBatch],
        each: Callable[[MicroBatch], Sums],
        *,
        on_restart: Callable[[], None] | None = None,
    ) -> Sums:
        """Runs every micro-batch; a common call of all ranks.

        A rank that has fewer micro-batches than another runs empty passes: with sharded weights each
        pass is a common call. On one rank a micro-batch that does not fit in memory is cut in two.

        Args:
            scorer: What `each` runs; the empty passes go through it.
            samples: What the micro-batches were made from.
            batches: Of this rank.
            each: One pass; what it returns is summed.
            on_restart: Given where passes leave gradients behind. An error in a backward pass leaves
                a part of them, so this drops them all and every pass is made again.

        Returns:
            This rank's sums, with "row_tokens", "padding", "saved" and "out_of_memory".

        Raises:
            torch.OutOfMemoryError: If a single sequence does not fit; with several ranks, at once:
                the others wait in the same pass, and none can go back.
        """
        num_passes = self.world.max(len(batches))
        queue, done = list(batches), 0
        sums: list[Sums] = []
        num_failed = 0
        while done < len(queue):
            # `_attempt` keeps no error: it would hold the frames of the pass, they its tensors, and no
            # memory would come free.
            if (part := self._attempt(queue[done], each)) is not None:
                sums.append(part)
                done += 1
                continue
            num_failed += 1
            if self.world.device.type == "cuda":
                torch.cuda.empty_cache()
            queue[done : done + 1] = self._halves(samples, queue[done])
            if on_restart is not None:
                on_restart()
                sums, done = [], 0
        for _ in range(num_passes - len(batches)):
            self._empty_pass(scorer, with_gradient=on_restart is not None)
        return combined([*sums, {"out_of_memory": float(num_failed)}])

    def _attempt(self, batch: MicroBatch, each: Callable[[MicroBatch], Sums]) -> Sums | None:
        try:
            part = each(batch)
        except torch.OutOfMemoryError as error:
            if self.world.size == 1 and batch.num_sequences > 1:
                return None
            raise torch.OutOfMemoryError(
                f"A micro-batch of {batch.num_computed} positions ({batch.num_sequences} sequences, "
                f"{batch.num_tokens} trained tokens) does not fit in memory. Set "
                "learner.gradient_checkpointing, lower learner.micro_batch_tokens or "
                f"learner.head_chunk_tokens, or give the engine less. ({error})"
            ) from error
        return part | {
            "row_tokens": float(batch.num_computed - batch.num_padding),
            "padding": float(batch.num_padding),
            "saved": float(batch.num_saved),
        }

    def _halves(self, samples: Sequence[Sample], batch: MicroBatch) -> Iterable[MicroBatch]:
        middle = batch.num_sequences // 2
        for places in (batch.sample_N[:middle], batch.sample_N[middle:]):
            for half in self.pack([samples[place] for place in places]):
                yield replace(half, sample_N=tuple(places[i] for i in half.sample_N))

    def _empty_pass(self, scorer: TokenScorer, *, with_gradient: bool) -> None:
        (batch,) = self.pack([DUMMY])
        with torch.set_grad_enabled(with_gradient):
            logprobs_M, _ = scorer(batch)
        if with_gradient:
            (0.0 * logprobs_M.sum()).backward()
