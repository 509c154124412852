"""Where untrusted Python runs: the protocol, its records, and what runs it."""

from .protocol import ExecResult, ExecStatus, Sandbox, SandboxLimits
from .subprocess_sandbox import SubprocessSandbox

__all__ = ["ExecResult", "ExecStatus", "Sandbox", "SandboxLimits", "SubprocessSandbox"]
