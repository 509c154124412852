"""In: the arguments of `maskgym eval`. Out: the configuration of the evaluation, checked."""

import argparse
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskgym.agents.config import set_value

from .train import absolute

ENDPOINT = "endpoint"


def evaluation_config(args: argparse.Namespace) -> Any:
    """The configuration that the arguments describe.

    Raises:
        ValueError: If one is missing, contradicts another, has a bad value, or shows a scaffold.
        FileNotFoundError: If there is no model in the folder.
        ConnectionError: If the endpoint does not say what it serves.
    """
    from maskgym.agents.config import config_from_dict
    from maskgym.agents.evaluation.config import EvaluationConfig, check_bare
    from maskgym.envs import find_env_id

    _check_choices(args)
    values: dict[str, Any] = {
        "env_id": find_env_id(args.env or _env_of(args.bench)),
        "model": "",
        "tasks": absolute(args.tasks or ""),
        "benchmarks": args.bench or "",
        "data_folder": absolute(args.data),
        "num_questions": args.num_tasks,
        "mapping": args.mapping,
        "skip_bad_rows": args.skip_bad_rows,
        "index": absolute(args.index),
        "policy": args.policy or "",
        "engine": ENDPOINT if args.endpoint else args.engine,
        "dtype": args.dtype,
        "max_model_len": args.max_model_len,
        "rollout": {"max_tokens_per_turn": args.max_tokens, "temperature": args.temperature},
        "seed": args.seed,
    }
    for item in args.set:
        set_value(values, item)
    check_bare(values)
    of_endpoint = values.pop("endpoint", {})
    config = config_from_dict(EvaluationConfig, values)
    return replace(
        config,
        model=resolve_model(args.model) if args.model and not args.endpoint else "",
        endpoint=_endpoint(args, of_endpoint),
    )


def resolve_model(name: str) -> str:
    """The folder of a model: as given, or of a model of the Hugging Face hub such as "Qwen/Qwen3-0.6B".

    Raises:
        FileNotFoundError: If it is neither; the message says what to download where.
    """
    from maskgym.agents.engines.engine import check_model_dir

    folder = Path(name).expanduser()
    owner, slash, rest = name.partition("/")
    is_hub_name = (
        bool(owner and slash and rest) and "/" not in rest and owner not in (".", "..", "~")
    )
    if folder.exists() or not is_hub_name:
        return str(check_model_dir(folder).absolute())
    remedy = (
        f"Download it where there is a network (`hf download {name} --local-dir FOLDER`) and give "
        "--model FOLDER."
    )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise FileNotFoundError(
            f"No model folder {name!r}, and huggingface_hub is not installed. {remedy}"
        ) from None
    try:
        return snapshot_download(
            name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"No model folder {name!r}, and the hub gave none ({type(error).__name__}: "
            f"{reason[:200]}). {remedy}"
        ) from None


def _check_choices(args: argparse.Namespace) -> None:
    if bool(args.tasks) == bool(args.bench):
        raise ValueError("Say what to play: either --bench NAMES or --tasks FILE.")
    if not args.out:
        raise ValueError("Say where the records go: --out FOLDER.")
    if args.policy and (args.model or args.endpoint):
        raise ValueError("Give one player: --policy, or --model, or --endpoint with its --model.")
    if not (args.policy or args.model or args.endpoint):
        raise ValueError("Say who plays: --model FOLDER, --endpoint URL, or --policy NAME.")
    if args.engine == ENDPOINT and not args.endpoint:
        raise ValueError("--engine endpoint needs the address of the server: --endpoint URL.")
    if args.endpoint and args.engine not in ("auto", ENDPOINT):
        raise ValueError(f"--endpoint plays on a server; --engine {args.engine} would not be used.")
    if args.num_tasks is not None and args.num_tasks < 1:
        raise ValueError(f"--num-tasks is {args.num_tasks}; give 1 or more.")


def _env_of(names: str | None) -> str:
    """The environment of the first benchmark's domain."""
    if not names:
        return "search"
    from maskgym.envs.benchmarks import benchmark_by_name

    return benchmark_by_name(names.split(",")[0].partition(":")[0].strip()).domain.value


def _endpoint(args: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of `EndpointConfig`, checked; those of `--set endpoint.name=value` included.

    Raises:
        ConnectionError: If no model is named and the server does not tell which one it serves.
    """
    if not args.endpoint:
        if settings:
            raise ValueError("--set endpoint... has no meaning without --endpoint URL.")
        return {}
    from maskgym.agents.config import config_from_dict
    from maskgym.agents.endpoint.player import Endpoint, EndpointConfig, EndpointError

    values = {
        "base_url": args.endpoint,
        "model": args.model or "",
        "api_key_env": args.api_key_env,
        "api": args.api,
        "max_concurrency": args.concurrency,
        **settings,
    }
    config = config_from_dict(EndpointConfig, values, place="endpoint.")
    try:
        with closing(
            Endpoint(config)
        ) as endpoint:  # by name, so that a run goes on with this model
            return {**values, "model": endpoint.model}
    except EndpointError as error:
        raise ConnectionError(str(error)) from None
