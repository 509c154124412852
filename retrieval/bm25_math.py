"""In: counts of terms and documents. Out: Lucene's BM25 weights, in Lucene's own precision.

Lucene computes in 32-bit floats and keeps one byte for a document's length; the same top ten in
the same order needs the same arithmetic. Source: BM25Similarity and SmallFloat of Lucene 9; for the
model Robertson and Zaragoza 2009, "The probabilistic relevance framework: BM25 and beyond".
"""

# N: documents, P: postings, S: distinct pairs of term frequency and length byte

import math

import numpy as np
from numpy.typing import NDArray

_MANTISSA_BITS = 3


def _float_code(value: int) -> int:
    """A whole number as 3 bits of mantissa and the rest exponent, rounded down (longToInt4)."""
    if value < 1 << _MANTISSA_BITS:
        return value
    shift = value.bit_length() - _MANTISSA_BITS - 1
    return ((value >> shift) & 0x07) | ((shift + 1) << _MANTISSA_BITS)


def _float_value(code: int) -> int:
    mantissa, shift = code & 0x07, (code >> _MANTISSA_BITS) - 1
    return mantissa if shift < 0 else (mantissa | 0x08) << shift


# Small lengths are kept exactly, as far as the codes that the largest one does not need.
_NUM_EXACT = 255 - _float_code(2**31 - 1)

LENGTHS = np.array(
    [
        code if code < _NUM_EXACT else _NUM_EXACT + _float_value(code - _NUM_EXACT)
        for code in range(256)
    ],
    dtype=np.int64,
)
"""[256], the document length that each byte stands for."""


def length_bytes(lengths_N: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The byte that Lucene keeps for each length: the largest stored length not above it."""
    return (np.searchsorted(LENGTHS, lengths_N, side="right") - 1).astype(np.uint8)


def denominators(
    frequencies_S: NDArray[np.int64],
    length_bytes_S: NDArray[np.uint8],
    *,
    mean_length: float,
    k1: float,
    b: float,
) -> NDArray[np.float32]:
    """``d = 1 + tf / (k1 * (1 - b + b * length / mean_length))``, for a clause of ``w - w / d``.

    Args:
        frequencies_S: [S], how often the term stands in the document.
        length_bytes_S: [S], the document's length as its byte.
        mean_length: Over the documents that have any term at all, as Lucene counts them.
        k1: Saturation of repeated terms; 0 counts each term once.
        b: How far long documents are held back; 0 not at all.

    Returns:
        [S], 32-bit; infinity for ``k1 = 0``.
    """
    one, k, share = np.float32(1), np.float32(k1), np.float32(b)
    with np.errstate(divide="ignore"):
        norms = one / (
            k * ((one - share) + share * LENGTHS.astype(np.float32) / np.float32(mean_length))
        )
        return (one + frequencies_S.astype(np.float32) * norms[length_bytes_S]).astype(np.float32)


def clause_weight(
    *, num_documents: int, document_frequency: int, query_frequency: int
) -> np.float32:
    """``query_frequency * ln(1 + (N - df + 0.5) / (df + 0.5))``, N without the empty documents."""
    ratio = (num_documents - document_frequency + 0.5) / (document_frequency + 0.5)
    return np.float32(query_frequency) * np.float32(math.log(1 + ratio))


def clause_scores(weight: np.float32, denominators_P: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one query term adds to each document that has it: ``w - w / d``, 32-bit as in Lucene."""
    return weight - weight / denominators_P
