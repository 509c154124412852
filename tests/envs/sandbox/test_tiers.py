"""Which tier a machine gives is found by trying; what it lacks is said."""

import errno
import itertools
import json
import os
import platform
from collections.abc import Iterator
from typing import Any

import pytest

from maskgym.envs.sandbox import LocalSandbox, SandboxTierError, tiers
from maskgym.envs.sandbox.inside import bpf, kernel, seccomp, syscalls_aarch64, syscalls_x86_64
from maskgym.envs.sandbox.inside.jail import JailConfig, default_readable
from maskgym.envs.sandbox.probes import Held, probe
from maskgym.envs.sandbox.tiers import at_least, detect
from maskgym.envs.sandbox.walls import Wall

NUMBERS = {"x86_64": syscalls_x86_64, "aarch64": syscalls_aarch64}


def on_a_machine_that_refuses(*calls: str) -> dict[str, Any]:
    """What a fork of this process finds after these system calls are refused, as in a container."""
    numbers = NUMBERS[platform.machine()].NUMBERS
    rules = [(bpf.if_equal(numbers[call], 0, 1), bpf.give(0x50000 | errno.EPERM)) for call in calls]
    words = [bpf.load(bpf.NUMBER_OFFSET), *itertools.chain(*rules), bpf.give(0x7FFF0000)]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.install(seccomp.Filter(program=b"".join(words), pid_offsets=()))
            found = detect()
            said = {"tier": found.tier, "missing": dict(found.missing), "error": ""}
            try:
                LocalSandbox()
            except SandboxTierError as error:
                said["error"] = str(error)
            os.write(writer, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return dict(json.loads(answer))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tiers.forget()
    yield
    tiers.forget()


needs_t2 = pytest.mark.skipif(not at_least("T2", detect().tier), reason="this machine is below T2")


@needs_t2
def test_a_container_without_namespaces_gives_t2() -> None:
    said = on_a_machine_that_refuses("unshare", "mount", "setns")
    assert said["tier"] == "T2"
    assert "T3" in said["missing"]
    assert said["error"] == ""


@needs_t2
def test_a_machine_without_landlock_gives_t1_and_is_refused_by_default() -> None:
    said = on_a_machine_that_refuses("landlock_create_ruleset")
    assert said["tier"] == "T1"
    assert "This machine gives T1, and T2 is demanded" in said["error"]
    assert "LocalSandbox(require='T1')" in said["error"] and "SubprocessSandbox()" in said["error"]


@needs_t2
def test_a_machine_without_seccomp_gives_t0() -> None:
    said = on_a_machine_that_refuses("seccomp")
    assert said["tier"] == "T0"
    assert {"T3", "T2", "T1"} <= set(said["missing"])


@pytest.mark.parametrize("at_most", tiers.TIERS)
def test_no_more_than_asked_for_is_used(at_most: str) -> None:
    found = detect(at_most)
    assert at_least(found.tier, at_most)
    assert found.report["tier"] == found.tier
    assert (found.wall is not Wall.NONE) == (found.tier == "T3")
    assert found.has_seccomp == (found.tier != "T0")


def test_the_report_says_where_there_is_nothing() -> None:
    report = detect("T0").report
    assert report["files"] == report["network"] == report["signals"] == "none"


def test_layers_that_are_off_are_seen_not_to_hold() -> None:
    layers = JailConfig(readable=default_readable(), has_landlock=False, has_seccomp=False)
    held = probe(Wall.NONE, layers)
    assert not held.error
    for name in ("read", "write", "modes", "processes", "sockets", "signals", "owners"):
        assert not held.jail[name], name
    assert not any(held.wall.values())
    assert held.jail["work"] and held.jail["memory"] and held.jail["limits"]


@needs_t2
def test_every_layer_is_seen_to_hold() -> None:
    held = probe(Wall.NONE, JailConfig(readable=default_readable()))
    failed = {name for name, is_held in held.jail.items() if not is_held}
    assert failed == {"disk"}, held


@pytest.mark.parametrize(
    ("broken", "tier"), [("read", "T1"), ("signals", "T0"), ("disk", "T3"), ("work", "T0")]
)
def test_one_protection_that_does_not_hold_costs_the_tier(
    monkeypatch: pytest.MonkeyPatch, broken: str, tier: str
) -> None:
    names = [*tiers._SECCOMP, *tiers._LANDLOCK, *tiers._LIMITS, "disk"]
    held = Held(
        wall=dict.fromkeys(tiers._WALL, True), jail={name: name != broken for name in names}
    )
    monkeypatch.setattr(tiers, "probe", lambda wall, config: held)
    found = detect()
    assert found.tier == tier
    assert found.has_mounts == (broken != "disk" and tier == "T3")
    if tier != "T3":
        assert found.missing["T2"] == f"not held when tried: {broken} (jail)"


def test_a_tier_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"'T4' is no tier; the tiers are T0, T1, T2, T3"):
        detect("T4")


def test_other_systems_get_limits_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    found = detect()
    assert found.tier == "T0"
    assert "darwin" in found.missing["T1"]
    assert found.report["memory"].startswith("none")
