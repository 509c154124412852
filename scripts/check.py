"""In: environment ids. Out: whether each keeps the contract; or what the sandbox protects."""

from __future__ import annotations

import argparse
import sys
import time

import gymnasium

from maskgym.envs import ENV_IDS, ContractError, SubprocessSandbox, check_environment, find_env_id

SUMMARY = "Check environments against the contract, or show what the sandbox protects."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym check`."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="ENV_ID",
        help="environment ids, short (search) or full (my_module:my/Env-v0); "
        "or the word sandbox; default: all three environments",
    )


def run(args: argparse.Namespace) -> int:
    """Checks each; 1 when something is violated."""
    if args.what == ["sandbox"]:
        return _show_sandbox()
    num_failed = 0
    for env_id in [find_env_id(name) for name in args.what or ENV_IDS]:
        started_s = time.monotonic()
        print(f"checking {env_id} ...", file=sys.stderr)
        env = gymnasium.make(env_id)
        try:
            check_environment(env)
        except ContractError as error:
            num_failed += 1
            print(f"{env_id}: FAILED\n{error}")
        else:
            print(f"{env_id}: passed ({time.monotonic() - started_s:.1f} s)")
        finally:
            env.close()
    return 1 if num_failed else 0


def _show_sandbox() -> int:
    sandbox = SubprocessSandbox()
    for kind, provider in sandbox.report().items():
        print(f"{kind:<12} {provider}")
    result = sandbox.run("print(1 + 1)")
    sandbox.close()
    print(f"{'trial run':<12} {result.status.value}")
    return 0 if result.stdout == "2\n" else 1
