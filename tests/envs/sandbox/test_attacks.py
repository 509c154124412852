"""Every attack program on every tier that this machine gives.

The programs are in `attacks/`, one each; what they aim at and how they are judged is in
`maskgym.scripts.benchmarks.sandbox_attacks`.
"""

import ast
from collections.abc import Iterator

import pytest

from maskgym.envs.sandbox import LocalSandbox
from maskgym.envs.sandbox.tiers import TIERS, at_least, detect
from maskgym.scripts.benchmarks.sandbox_attacks import (
    MAX_GROWTH_MB,
    PROGRAMS,
    Outside,
    attack_names,
    run_attack,
    stopped_from,
)

ATTACKS = attack_names()
WORK_WITHOUT_PROTECTION = [
    *("read_system_file", "read_user_file", "read_other_run", "list_folder", "hard_link"),
    *("write_file", "change_file", "truncate_file", "delete_file", "move_file", "symlink_read"),
    *("change_mode", "change_times", "special_files", "fork_in_c", "other_program"),
    *("network_tcp", "network_udp", "network_unix_path", "network_unix_abstract"),
    *("network_unix_datagram", "signal_parent", "signal_process", "signal_queue"),
    *("signal_by_descriptor", "signal_by_file_owner", "limits_of_process", "outlive_server"),
    *("memory_bomb_in_processes", "memory_in_segments", "network_addresses"),
]

Arena = tuple[LocalSandbox, Outside]


@pytest.fixture(scope="module")
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    tier = request.param
    if detect(tier).tier != tier:
        pytest.skip(f"this machine gives {detect(tier).tier}: {dict(detect(tier).missing)}")
    sandbox = LocalSandbox(require=tier, at_most=tier)
    with Outside(sandbox) as outside:
        yield sandbox, outside
    sandbox.close()


PROMISES = [
    (tier, attack)
    for tier in reversed(TIERS)
    for attack in ATTACKS
    if at_least(stopped_from(attack), tier)
]


@pytest.mark.parametrize(("arena", "attack"), PROMISES, indirect=["arena"])
def test_attacks_are_stopped_by_the_tiers_that_promise_it(arena: Arena, attack: str) -> None:
    outcome = run_attack(*arena, attack)
    assert outcome.is_stopped, outcome
    assert outcome.growth_mb < MAX_GROWTH_MB


@pytest.mark.parametrize("attack", WORK_WITHOUT_PROTECTION)
def test_attacks_work_where_nothing_protects_so_the_judge_is_not_blind(attack: str) -> None:
    sandbox = LocalSandbox(require="T0", at_most="T0")
    with Outside(sandbox) as outside:
        assert not run_attack(sandbox, outside, attack).is_stopped
    sandbox.close()


def test_the_default_tier_promises_to_stop_every_attack() -> None:
    assert {stopped_from(attack) for attack in ATTACKS} <= set(TIERS[:3])
    assert set(WORK_WITHOUT_PROTECTION) <= set(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_program_says_in_a_line_what_it_does(attack: str) -> None:
    line = ast.get_docstring(ast.parse((PROGRAMS / f"{attack}.py").read_text()))
    assert line and line.endswith(".") and "\n" not in line
