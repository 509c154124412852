"""In: environment ids. Out: whether each keeps the contract, or for which tricks it pays."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing

import gymnasium

from maskgym.envs import ENV_IDS, ContractError, LocalSandbox, check_environment, find_env_id
from maskgym.envs.reward_integrity import TrickOutcome, play_tricks
from maskgym.envs.sandbox import SandboxTierError
from maskgym.envs.sandbox.tiers import detect

from .console import format_table

SUMMARY = "Check environments against the contract, their rewards, or what the sandbox protects."
EXAMPLES = """\
  maskgym check                                   the contract, for the three environments
  maskgym check math my_module:my/Env-v0          the contract, for these
  maskgym check reward my_module:my/Env-v0        every trick that earned a reward somewhere
  maskgym check sandbox                           each protection, as probed on this machine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym check`."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="WHAT",
        help="environment ids, short (search) or full (my_module:my/Env-v0), perhaps behind the "
        "word reward; or the word sandbox; default: all three environments",
    )


def run(args: argparse.Namespace) -> int:
    """Checks each; 1 when something is violated."""
    match args.what:
        case ["sandbox"]:
            return _show_sandbox()
        case ["reward", *names]:
            return max(_check_reward(find_env_id(name)) for name in names or ENV_IDS)
        case names:
            return max(_check_contract(find_env_id(name)) for name in names or ENV_IDS)


def _check_contract(env_id: str) -> int:
    started_s = time.monotonic()
    print(f"checking {env_id} ...", file=sys.stderr)
    env = gymnasium.make(env_id)
    try:
        check_environment(env)
    except ContractError as error:
        print(f"{env_id}: FAILED\n{error}")
        return 1
    finally:
        env.close()
    print(f"{env_id}: passed ({time.monotonic() - started_s:.1f} s)")
    return 0


def _check_reward(env_id: str) -> int:
    env = gymnasium.make(env_id)
    try:
        outcomes = play_tricks(env)
    finally:
        env.close()
    rows = [(each.name, each.num_attempts or None, _result(each)) for each in outcomes]
    print(f"{env_id}\n{format_table(('trick', 'attempts', 'result'), rows)}\n")
    return 0 if all(outcome.is_stopped for outcome in outcomes) else 1


def _result(outcome: TrickOutcome) -> str:
    if not outcome.num_attempts:
        return "does not apply"
    return "not paid" if outcome.is_stopped else f"PAID: {outcome.paid[0]}"


def _show_sandbox() -> int:
    """Each protection as probed here; 1 where the default tier is not reached."""
    with closing(LocalSandbox(require="T0")) as sandbox:
        rows = list(sandbox.report().items())
        result = sandbox.run("print(1 + 1)")
    print(format_table(("protection", "provided by"), [*rows, ("trial run", result.status.value)]))
    for tier, why in detect().missing.items():
        print(f"no {tier}: {why}")
    try:
        LocalSandbox().close()
    except SandboxTierError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0 if result.stdout == "2\n" else 1
