"""In: this machine. Out: how well code can be locked up here, found by trying.

- T3: namespaces around the pool, and what T2 has. Other paths, processes and networks do not exist.
- T2: Landlock and seccomp. They exist and cannot be opened, signalled or reached.
- T1: seccomp and resource limits (kernels before 5.13). The user's files can be read and written.
- T0: resource limits only: code runs as you.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from .inside.jail import JailConfig, default_readable
from .probes import Held, probe
from .walls import Wall

TIERS = ("T0", "T1", "T2", "T3")

_SECCOMP = ["processes", "programs", "network", "sockets", "datagrams", "signals", "owners"]
_SECCOMP += ["namespaces", "modes"]
_LANDLOCK = ["read", "write", "truncate", "environment"]
_LIMITS = ["work", "memory", "limits"]
_WALL = ["paths", "processes", "network"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protection:
    """The layers that work here, each of them tried."""

    tier: str
    wall: Wall
    has_landlock: bool
    has_seccomp: bool
    has_mounts: bool
    """Whether each run's folder is a file system of fixed size."""
    report: Mapping[str, str]
    """Each kind of protection and what provides it, "none" where nothing does."""
    missing: Mapping[str, str]
    """Why each higher tier cannot be had."""


def at_least(wanted: str, have: str) -> bool:
    """Whether tier `have` gives what tier `wanted` asks for: each tier gives what lower ones do.

    Raises:
        ValueError: If either is no tier.
    """
    for tier in (wanted, have):
        if tier not in TIERS:
            raise ValueError(f"{tier!r} is no tier; the tiers are {', '.join(TIERS)}.")
    return TIERS.index(have) >= TIERS.index(wanted)


def detect(at_most: str = "T3") -> Protection:
    """The highest tier up to `at_most` whose every protection held when tried; tried once.

    A few processes are started for this, some tenths of a second in all.
    """
    at_least("T0", at_most)
    return _detect(at_most)


def forget() -> None:
    """Has the next `detect` try everything anew."""
    _detect.cache_clear()


@functools.cache
def _detect(at_most: str) -> Protection:
    missing: dict[str, str] = {}
    if not sys.platform.startswith("linux"):
        missing["T1"] = f"Landlock and seccomp are Linux's; this is {sys.platform}"
        return _protection("T0", Wall.NONE, _layers(False, False, False), missing)
    for tier, wall, layers in _candidates():
        if not at_least(tier, at_most) or (at_most == "T0" and layers.has_landlock):
            continue
        held = probe(wall, layers)
        reason = _reason_against(tier, layers, held)
        if reason is None:
            missing.pop(tier, None)
            return _protection(tier, wall, layers, missing)
        missing.setdefault(tier, reason)
    return _protection("T0", Wall.NONE, _layers(False, False, False), missing)


def _candidates() -> list[tuple[str, Wall, JailConfig]]:
    walls = [wall for wall in Wall if wall is not Wall.NONE]
    return [
        *(("T3", wall, _layers(True, True, True)) for wall in walls),
        *(("T3", wall, _layers(True, True, False)) for wall in walls),
        ("T2", Wall.NONE, _layers(True, True, False)),
        ("T1", Wall.NONE, _layers(False, True, False)),
        ("T0", Wall.NONE, _layers(True, False, False)),
        ("T0", Wall.NONE, _layers(False, False, False)),
    ]


def _layers(has_landlock: bool, has_seccomp: bool, has_mounts: bool) -> JailConfig:
    return JailConfig(
        readable=default_readable(),
        has_landlock=has_landlock,
        has_seccomp=has_seccomp,
        has_mounts=has_mounts,
    )


def _reason_against(tier: str, layers: JailConfig, held: Held) -> str | None:
    """Why this machine does not give `tier` with these layers; None if it does."""
    if held.error:
        return held.error.strip().splitlines()[-1]
    demanded = [("jail", name) for name in _LIMITS]
    demanded += [("jail", name) for name in _SECCOMP if layers.has_seccomp]
    demanded += [("jail", name) for name in _LANDLOCK if layers.has_landlock]
    demanded += [("jail", "disk")] if layers.has_mounts else []
    demanded += [("wall", name) for name in _WALL if tier == "T3"]
    answers = {"jail": held.jail, "wall": held.wall}
    failed = [f"{name} ({part})" for part, name in demanded if not answers[part].get(name)]
    return f"not held when tried: {', '.join(failed)}" if failed else None


def _protection(
    tier: str, wall: Wall, layers: JailConfig, missing: Mapping[str, str]
) -> Protection:
    is_linux = sys.platform.startswith("linux")
    outside = "namespaces and " if tier == "T3" else ""
    seccomp = "seccomp" if layers.has_seccomp else ""
    landlock = "Landlock" if layers.has_landlock else ""
    report = {
        "tier": tier,
        "wall": str(wall),
        "files": outside + landlock if landlock else "none",
        "hidden paths": f"mount namespace ({wall})" if tier == "T3" else "none",
        "file modes": seccomp or "none",
        "network": outside + seccomp if seccomp else "none",
        "processes": seccomp or "rlimit, per user; none for root",
        "signals": outside + seccomp if seccomp else "none",
        "environment": "scrubbed",
        "memory": "rlimit" if is_linux else "none: not enforced on this system",
        "cpu": "rlimit",
        "disk": "file system of fixed size"
        if layers.has_mounts
        else "rlimit per file, and watched",
    }
    return Protection(
        tier=tier,
        wall=wall,
        has_landlock=layers.has_landlock,
        has_seccomp=layers.has_seccomp,
        has_mounts=layers.has_mounts,
        report=report,
        missing=missing,
    )
