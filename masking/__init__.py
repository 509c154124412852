"""Masking: expert trace -> detectors -> spans -> policy -> renderer -> scaffold and its audit."""

from .audit import Audit
from .detectors import DETECTORS, Detector, find_spans, register_detector
from .mask import Scaffold, mask
from .policies import POLICIES, MaskPolicy, policy_by_name, register_policy
from .render import RenderConfig
from .spans import MaskableTask, Span, SpanKind
from .traces import ExpertTrace, TraceTurn, TurnKind

__all__ = [
    "DETECTORS",
    "POLICIES",
    "Audit",
    "Detector",
    "ExpertTrace",
    "MaskPolicy",
    "MaskableTask",
    "RenderConfig",
    "Scaffold",
    "Span",
    "SpanKind",
    "TraceTurn",
    "TurnKind",
    "find_spans",
    "mask",
    "policy_by_name",
    "register_detector",
    "register_policy",
]
