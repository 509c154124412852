"""Where untrusted Python runs: the protocol, its records, and what runs it."""

from .local_sandbox import LocalSandbox
from .protocol import (
    CallResult,
    Candidate,
    ExecResult,
    ExecStatus,
    Sandbox,
    SandboxFeatureError,
    SandboxLimits,
    SandboxTierError,
    ScriptsOnly,
    Session,
)
from .subprocess_sandbox import SubprocessSandbox

__all__ = [
    "CallResult",
    "Candidate",
    "ExecResult",
    "ExecStatus",
    "LocalSandbox",
    "Sandbox",
    "SandboxFeatureError",
    "SandboxLimits",
    "SandboxTierError",
    "ScriptsOnly",
    "Session",
    "SubprocessSandbox",
]
