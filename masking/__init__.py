"""Masking: expert trace -> detectors -> spans -> policy -> renderer -> scaffold and its audit."""

from .audit import Audit, DatasetAudit, LeakLevel
from .checks import Checks
from .dataset import mask_all
from .detectors import DETECTORS, Detector, find_spans, register_detector
from .entities import KnownEntities
from .mask import mask
from .matcher import AliasIndex
from .ner import SpacyEntities
from .policies import POLICIES, MaskPolicy, policy_by_name, register_policy
from .render import RenderConfig
from .scaffold import Scaffold
from .spans import MaskableTask, Span, SpanKind
from .trace_formats import FORMATS as TRACE_FORMATS
from .trace_formats import parse_trace
from .traces import ExpertTrace, TraceTurn, TurnKind

__all__ = [
    "DETECTORS",
    "POLICIES",
    "TRACE_FORMATS",
    "AliasIndex",
    "Audit",
    "Checks",
    "DatasetAudit",
    "Detector",
    "ExpertTrace",
    "KnownEntities",
    "LeakLevel",
    "MaskPolicy",
    "MaskableTask",
    "RenderConfig",
    "Scaffold",
    "SpacyEntities",
    "Span",
    "SpanKind",
    "TraceTurn",
    "TurnKind",
    "find_spans",
    "mask",
    "mask_all",
    "parse_trace",
    "policy_by_name",
    "register_detector",
    "register_policy",
]
