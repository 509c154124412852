"""In: a sandbox by name. Out: the sandbox."""

from __future__ import annotations

import difflib

from .http_sandbox import HTTPSandbox
from .local_sandbox import LocalSandbox
from .protocol import Sandbox
from .subprocess_sandbox import SubprocessSandbox
from .tiers import TIERS

_SUBPROCESS = "subprocess"


def open_sandbox(name: str) -> Sandbox:
    """The sandbox that `name` asks for.

    Args:
        name: "T0" to "T3" for a `LocalSandbox` that demands this tier, "subprocess" for a
            `SubprocessSandbox`, or the ``http://`` address of a SandboxFusion-compatible service.

    Raises:
        ValueError: If it is none of these.
        SandboxTierError: If this machine protects less than demanded.
    """
    if name.startswith(("http://", "https://")):
        return HTTPSandbox(name)
    if name == _SUBPROCESS:
        return SubprocessSandbox()
    if name in TIERS:
        return LocalSandbox(require=name)
    known = (*TIERS, _SUBPROCESS)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"No sandbox {name!r}. Did you mean {near!r}? There are: {', '.join(known)}, or the "
        "http:// address of a service."
    )
