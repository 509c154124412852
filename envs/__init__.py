"""Tasks, tools, verifiers and the environments; importing it registers their ids in Gymnasium."""

from .base import TextEnv
from .benchmark_table import BENCHMARKS, Benchmark
from .benchmarks import load_benchmark, load_benchmarks
from .budget import Budget, EndReason, EpisodeConfig
from .code import CodeEnv
from .contract import ContractError, Violation, check_environment
from .datasets import load_tasks, save_tasks, task_to_row
from .experts import expert_actions, gold_answer
from .json_protocol import JSONProtocol
from .math import MathEnv
from .protocol import ActionKind, ActionProtocol, ParsedAction, XMLProtocol
from .registration import ENV_IDS, find_env_id, register_envs
from .rewards import outcome_reward
from .sandbox import (
    ExecResult,
    ExecStatus,
    LocalSandbox,
    Sandbox,
    SandboxLimits,
    SandboxTierError,
    SubprocessSandbox,
)
from .search import SearchEnv, retrieval_recall
from .spaces import UnicodeText, replace_surrogates
from .task_mix import TaskMix
from .task_source import resolve_tasks
from .tasks import CodeTest, Domain, Task, TaskSource, TestKind
from .testbed import ArithmeticChains, FictionalWorld, SmallPrograms, testbed
from .tools import PythonTool, SearchConfig, SearchTool, Tool, ToolResult
from .transcript import Segment, SegmentKind, Transcript, strip_thinking
from .vector import make_vec
from .verdicts import Grade, Verdict
from .verifiers import verify_code, verify_math, verify_search
from .wrappers import FlattenScaffold

__all__ = [
    "BENCHMARKS",
    "ENV_IDS",
    "ActionKind",
    "ActionProtocol",
    "ArithmeticChains",
    "Benchmark",
    "Budget",
    "CodeEnv",
    "CodeTest",
    "ContractError",
    "Domain",
    "EndReason",
    "EpisodeConfig",
    "ExecResult",
    "ExecStatus",
    "FictionalWorld",
    "FlattenScaffold",
    "Grade",
    "JSONProtocol",
    "LocalSandbox",
    "MathEnv",
    "ParsedAction",
    "PythonTool",
    "Sandbox",
    "SandboxLimits",
    "SandboxTierError",
    "SearchConfig",
    "SearchEnv",
    "SearchTool",
    "Segment",
    "SegmentKind",
    "SmallPrograms",
    "SubprocessSandbox",
    "Task",
    "TaskMix",
    "TaskSource",
    "TestKind",
    "TextEnv",
    "Tool",
    "ToolResult",
    "Transcript",
    "UnicodeText",
    "Verdict",
    "Violation",
    "XMLProtocol",
    "check_environment",
    "expert_actions",
    "find_env_id",
    "gold_answer",
    "load_benchmark",
    "load_benchmarks",
    "load_tasks",
    "make_vec",
    "outcome_reward",
    "register_envs",
    "replace_surrogates",
    "resolve_tasks",
    "retrieval_recall",
    "save_tasks",
    "strip_thinking",
    "task_to_row",
    "testbed",
    "verify_code",
    "verify_math",
    "verify_search",
]

register_envs()
