"""Verifiers: pure functions from an answer and its target to a grade."""

from .code import CodeVerifierConfig, verify_code
from .code_extract import extract_code
from .code_modes import CodeMode
from .math import MathMode, verify_math
from .search import (
    Normalization,
    contains_answer,
    exact_match,
    f1_score,
    normalize_answer,
    verify_search,
)

__all__ = [
    "CodeMode",
    "CodeVerifierConfig",
    "MathMode",
    "Normalization",
    "contains_answer",
    "exact_match",
    "extract_code",
    "f1_score",
    "normalize_answer",
    "verify_code",
    "verify_math",
    "verify_search",
]
