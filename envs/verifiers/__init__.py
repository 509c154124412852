"""Verifiers: pure functions from an answer and its target to a grade."""

from .code import CodeVerifierConfig, extract_code, verify_code
from .math import verify_math
from .search import (
    Normalization,
    contains_answer,
    exact_match,
    f1_score,
    normalize_answer,
    verify_search,
)

__all__ = [
    "CodeVerifierConfig",
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
