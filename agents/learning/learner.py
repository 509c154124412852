"""Samples in, new weights out: the model, its optimiser, and the optimiser steps on a batch."""

# M: trained tokens of a micro-batch, N: its sequences

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from ..distributed import World
from ..rollouts.trajectory import TokenSequence
from .learner_config import LearnerConfig
from .lora import add_lora, merged_weights, without_adapters
from .mini_batches import MiniBatch, mini_batches, tokens_of
from .objective import logprob_gap, policy_objective
from .packing import MicroBatch
from .passes import Passes
from .precision import MasterWeights, cast_weights
from .sample import Sample
from .scorer import TokenScorer
from .step_stats import StepStats, StepTimes, Sums, combined, step_stats, timed

__all__ = ["Learner", "LearnerConfig"]

NUM_PROBED = 8
"""Sequences on which engine and trainer are compared when a batch teaches nothing."""


class Learner:
    """A causal language model and its optimiser.

    On several ranks each method is a common call: every rank makes it, with its own samples. A prompt
    group lies whole on one rank.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        config: LearnerConfig,
        *,
        temperature: float = 1.0,
        world: World | None = None,
        reference: torch.nn.Module | None = None,
    ) -> None:
        """Takes the model over: it is converted, wrapped and sharded in place.

        Args:
            model: A Transformers causal language model.
            config: How weights move.
            temperature: The one of the sampling; log-probabilities are those of that distribution.
            world: The ranks; None for this process alone.
            reference: What a KL term compares with; None for `model` as it is now, so a resumed run
                must give the one that it started from. With adapters: the model without them.
        """
        self.config = config
        self.temperature = temperature
        self.world = world or World(device=next(model.parameters()).device)
        self._passes = Passes(
            self.world,
            max_tokens=config.micro_batch_tokens,
            packing=config.packing,
            share_prompts=config.share_prompts,
        )
        self._reference: TokenScorer | None = None
        if config.lora is not None:
            model = add_lora(model, config.lora)
        elif config.loss.kl_coef:
            frozen = deepcopy(model) if reference is None else reference
            self._reference = self._scorer(frozen.requires_grad_(False))
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(  # type: ignore[operator]
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        self.model = model.train()
        self._masters: MasterWeights | None = None
        if self.world.size == 1 and (config.precision != "float32" or config.offload_optimiser):
            self._masters = MasterWeights(
                [parameter for _, parameter in self._learning()],
                precision=config.precision,
                is_offloaded=config.offload_optimiser,
            )
        self.scorer = self._scorer(model)
        # Sharding has put other parameters in the place of the model's.
        self._moved = [parameter for _, parameter in self._learning()]
        if self._masters is not None:
            self._moved = self._masters.copies
        matrices: dict[str, Any] = {"params": [p for p in self._moved if p.ndim > 1]}
        others = {"params": [p for p in self._moved if p.ndim < 2], "weight_decay": 0.0}
        self.optimiser = torch.optim.AdamW(
            [group for group in (matrices, others) if group["params"]],
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step = 0
        self._num_skipped_in_a_row = 0

    @property
    def is_shareable(self) -> bool:
        """Whether `model` has the names of the checkpoint and its whole weights: an engine may use it."""
        return self.world.size == 1 and self.config.lora is None

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.world.device

    def policy_update(self, samples: Sequence[Sample]) -> StepStats:
        """`updates_per_batch` optimiser steps on one batch of sampled trajectories.

        Sequences of advantage 0 carry no gradient: they are computed only where a KL or entropy term
        moves them, but always count in the totals, so a flat group that is not computed does not
        raise the step size of the others.

        Raises:
            FloatingPointError: If loss or gradient were not finite in more than `max_skipped`
                optimiser steps in a row; the weights are those after the last good one.
            torch.OutOfMemoryError: If a single sequence does not fit.
        """
        started_s, times, loss = time.perf_counter(), StepTimes(), self.config.loss
        with timed(times, "packing_s"):
            parts = mini_batches(
                samples,
                loss,
                num_updates=self.config.updates_per_batch,
                seed=self.step,
                world=self.world,
                pack=self._passes.pack,
            )
        with timed(times, "scoring_s"):
            sums = [self._probe(samples, parts[0])]
            for i, part in enumerate(parts):
                if loss.kl_coef:
                    part.reference = self._reference_scores(part)
                if loss.old_logprobs == "trainer" and i:  # the first one's old values are its own
                    part.old = self._scores(self.scorer, part.samples, part.batches)
        for part in parts:
            is_fresh = not combined(sums).get("updates")  # the weights that the engine has too

            def objective(
                batch: MicroBatch, part: MiniBatch = part, is_fresh: bool = is_fresh
            ) -> tuple[Tensor, Sums]:
                logprobs_M, entropy_M = self.scorer(batch, with_entropy=True)
                total, measured = policy_objective(
                    loss,
                    batch,
                    logprobs_M=logprobs_M,
                    entropy_M=entropy_M,
                    weights_N=part.weights_of(batch),
                    old_logprobs_M=tokens_of(part.old, batch),
                    reference_M=tokens_of(part.reference, batch),
                )
                return total, measured | (logprob_gap(batch, logprobs_M) if is_fresh else {})

            sums.append(self._optimise(part, objective, times))
        return self._stats(sums, samples, times, started_s)

    def supervised_step(
        self, sequences: Sequence[TokenSequence], *, lr: float | None = None
    ) -> StepStats:
        """One optimiser step of imitation: likelihood of the tokens with loss mask 1.

        Args:
            sequences: What is imitated.
            lr: Learning rate of this step; None for the schedule's.

        Raises:
            FloatingPointError, torch.OutOfMemoryError: As `policy_update`.
        """
        started_s, times = time.perf_counter(), StepTimes()
        samples = [Sample(sequence=sequence) for sequence in sequences]
        with timed(times, "packing_s"):
            (num_tokens,) = self.world.sum([sum(sample.num_tokens for sample in samples)])
            weights = [1.0 / max(num_tokens, 1.0)] * len(samples)
            part = MiniBatch(samples=samples, weights=weights, batches=self._passes.pack(samples))

        def objective(batch: MicroBatch) -> tuple[Tensor, Sums]:
            logprobs_M, _ = self.scorer(batch)
            loss = -(part.weights_of(batch)[batch.sequence_M] * logprobs_M).sum()
            return loss, {"loss": float(loss.detach()), "tokens": float(batch.num_tokens)}

        sums = [self._optimise(part, objective, times, lr=lr)]
        return self._stats(sums, samples, times, started_s, lr=lr)

    def restart(self) -> None:
        """Forgets the optimiser's moments and the place in its schedule; the weights stay."""
        self.optimiser.state.clear()
        self.step = 0
        self._num_skipped_in_a_row = 0

    def score(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Log-probabilities of each sample's trained tokens under the current weights."""
        scores = self._scores(self.scorer, samples, self._passes.pack(samples))
        return [score.tolist() for score in scores]

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Whole weights by the names of the checkpoint, a tied head once, for `Engine.update_weights`.

        Adapters are added in, and shards gathered one tensor at a time (so every rank must iterate to
        the end), in the type that the trainer computes with. The training copy is not touched.
        """
        dtype = getattr(torch, self.config.precision)

        def whole(tensor: Tensor) -> Tensor:
            return self.world.full_tensor(tensor, dtype=dtype)

        model: Any = self.model
        if self.config.lora is not None:
            weights = merged_weights(model, whole)
        else:
            weights = ((name, whole(p)) for name, p in model.named_parameters())
        tied = bool(getattr(model.config, "tie_word_embeddings", False))
        for name, weight in weights:
            if not (tied and name == "lm_head.weight"):
                yield name, weight

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs beside the weights of `named_weights`.

        That is the optimiser, the step, and the weights that learn where `named_weights` does not hold
        them bit for bit: in bfloat16, and adapters. On several ranks its tensors are shards.
        """
        return {
            "step": self.step,
            "num_skipped_in_a_row": self._num_skipped_in_a_row,
            "optimiser": self.optimiser.state_dict(),
            "weights": {name: weight.detach() for name, weight in self._exact_weights()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave.

        The model must hold the exported weights of that checkpoint; one with adapters, those of the
        model that the run started from.

        Raises:
            ValueError: If the state is that of another precision, other adapters or another model.
        """
        saved = state["weights"]
        exact = dict(self._exact_weights())
        shapes = [{name: w.shape for name, w in weights.items()} for weights in (saved, exact)]
        odd = sorted(n for n in {*saved, *exact} if shapes[0].get(n) != shapes[1].get(n))
        if odd:
            raise ValueError(
                f"The checkpoint does not fit: {len(odd)} weights differ, first {odd[0]!r}. Resume "
                "with the model, learner.precision and learner.lora that the run was started with."
            )
        self.step = int(state["step"])
        self._num_skipped_in_a_row = int(state["num_skipped_in_a_row"])
        self.optimiser.load_state_dict(state["optimiser"])
        with torch.no_grad():
            for name, weight in exact.items():
                weight.copy_(saved[name])
        if self._masters is not None:
            (self._masters.write_back if exact else self._masters.read_back)()

    def _scorer(self, model: torch.nn.Module) -> TokenScorer:
        config = self.config
        if self.world.size == 1:
            cast_weights(model.parameters(), config.precision)
        scorer = TokenScorer(
            model, temperature=self.temperature, head_chunk_tokens=config.head_chunk_tokens
        )
        self.world.shard(scorer, precision=config.precision, offload=config.offload_optimiser)
        return scorer

    def _learning(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def _exact_weights(self) -> Iterator[tuple[str, Tensor]]:
        if self.config.precision == "float32" and self.config.lora is None:
            return
        for (name, _), weight in zip(self._learning(), self._moved, strict=True):
            yield name, weight

    def _optimise(
        self,
        part: MiniBatch,
        objective: Callable[[MicroBatch], tuple[Tensor, Sums]],
        times: StepTimes,
        *,
        lr: float | None = None,
    ) -> Sums:
        """One optimiser step, or none where there is nothing to learn or the gradient is not finite."""

        def each(batch: MicroBatch) -> Sums:
            loss, sums = objective(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            return sums

        with timed(times, "gradients_s"):
            own = self._passes.run(
                self.scorer, part.samples, part.batches, each, on_restart=self._forget_gradients
            )
            sums = combined(self.world.gather(own))
        rate = self.config.lr_at(self.step) if lr is None else lr
        self.step += 1
        if not sums.get("tokens"):
            return sums
        with timed(times, "optimiser_s"):
            if self._masters is not None:
                self._masters.hand_over()
            norm = self.world.clip_gradients(self._moved, self.config.max_grad_norm)
            if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
                self._skip(sums["loss"], norm)
                return {"skipped": 1.0, "out_of_memory": sums["out_of_memory"]}
            self._num_skipped_in_a_row = 0
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            if self._masters is not None:
                self._masters.write_back()
            self._forget_gradients()
        return sums | {"updates": 1.0, "grad_norm": norm}

    def _skip(self, loss: float, norm: float) -> None:
        self._forget_gradients()
        self._num_skipped_in_a_row += 1
        if self._num_skipped_in_a_row > self.config.max_skipped:
            raise FloatingPointError(
                f"Loss {loss} and gradient norm {norm} in optimiser step {self.step}, "
                f"{self._num_skipped_in_a_row} times in a row. The weights are unchanged; lower the "
                "learning rate, or look at the last trajectories."
            )

    def _forget_gradients(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        if self._masters is not None:
            self._masters.forget_gradients()

    def _scores(
        self, scorer: TokenScorer, samples: Sequence[Sample], batches: Sequence[MicroBatch]
    ) -> list[Tensor]:
        """Per sample, [trained tokens]: log-probabilities without gradient."""
        scores = [torch.zeros(0, device=self.device)] * len(samples)

        def each(batch: MicroBatch) -> Sums:
            with torch.no_grad():
                logprobs_M, _ = scorer(batch)
            lengths = torch.bincount(batch.sequence_M, minlength=batch.num_sequences).tolist()
            for place, score_T in zip(batch.sample_N, logprobs_M.split(lengths), strict=True):
                scores[place] = score_T
            return {}

        self._passes.run(scorer, samples, batches, each)
        return scores

    def _reference_scores(self, part: MiniBatch) -> list[Tensor]:
        if self._reference is not None:
            return self._scores(self._reference, part.samples, part.batches)
        with without_adapters(self.model):
            return self._scores(self.scorer, part.samples, part.batches)

    def _probe(self, samples: Sequence[Sample], part: MiniBatch) -> Sums:
        """Engine and trainer compared where the first optimiser step has no token to compare."""
        num_compared = sum(s.num_tokens for s in part.samples if s.sequence.is_on_policy)
        if self.world.sum([num_compared])[0]:
            return {}
        chosen = [s for s in samples if s.sequence.is_on_policy and s.num_tokens][:NUM_PROBED]

        def each(batch: MicroBatch) -> Sums:
            with torch.no_grad():
                logprobs_M, entropy_M = self.scorer(batch, with_entropy=True)
            entropy = {"entropy": float(entropy_M.sum()), "entropy_tokens": float(len(entropy_M))}
            return entropy | logprob_gap(batch, logprobs_M)

        own = self._passes.run(self.scorer, chosen, self._passes.pack(chosen), each)
        sums = combined(self.world.gather(own))
        return {name: sums[name] for name in sums if "gap" in name or "entropy" in name}

    def _stats(
        self,
        sums: Sequence[Sums],
        samples: Sequence[Sample],
        times: StepTimes,
        started_s: float,
        *,
        lr: float | None = None,
    ) -> StepStats:
        (num_tokens,) = self.world.sum([sum(sample.num_tokens for sample in samples)])
        times.total_s = time.perf_counter() - started_s
        return step_stats(
            combined(sums),
            num_tokens=int(num_tokens),
            lr=self.config.lr_at(self.step - 1) if lr is None else lr,
            times=times,
        )
