"""In: layers to try on this machine. Out: which protections held, tried in a process of their own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .inside.jail import JailConfig
from .inside.probe import Target, process_namespace
from .walls import Wall, command

_OWN_FOLDER = str(Path(__file__).parent)
_START = f"import sys; sys.path.insert(0, {_OWN_FOLDER!r}); from inside import probe; probe.main()"
_MAX_S = 60.0  # a loaded machine is slow to start Python


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What was tried and whether it was refused; all empty where the layers cannot be made."""

    wall: Mapping[str, bool]
    jail: Mapping[str, bool]
    error: str = ""
    """Why the layers cannot be made, if they cannot."""


def probe(wall: Wall, config: JailConfig) -> Held:
    """Tries every protection of a pool with this wall and these layers; harms nothing."""
    with tempfile.TemporaryDirectory(prefix="maskgym-probe-") as outside, socket.socket() as port:
        secret = Path(outside, "outside")
        secret.write_text("not for the program")
        secret.chmod(0o600)
        pool = Path(outside, "pool")
        workdir = pool / "0"
        workdir.mkdir(parents=True)
        port.bind(("127.0.0.1", 0))
        port.listen()
        target = Target(
            file=str(secret),
            port=port.getsockname()[1],
            namespace=process_namespace(),
        )
        request = {"jail": asdict(config), "workdir": str(workdir), "target": asdict(target)}
        prefix = command(wall, writable=str(pool), readable=(*config.readable, _OWN_FOLDER))
        if prefix is None:
            return Held(wall={}, jail={}, error=f"{wall} is not installed")
        return _ask([*prefix, sys.executable, "-I", "-S", "-B", "-c", _START], json.dumps(request))


def _ask(arguments: list[str], request: str) -> Held:
    try:
        done = subprocess.run(
            arguments,
            input=request,
            env={},
            cwd="/",
            timeout=_MAX_S,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Held(wall={}, jail={}, error=str(error))
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return Held(wall={}, jail={}, error=done.stderr.strip() or f"exit {done.returncode}")
    return Held(
        wall=answer.get("wall", {}), jail=answer.get("jail", {}), error=answer.get("error", "")
    )
