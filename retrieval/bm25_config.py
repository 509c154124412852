"""In: what a user wants of BM25. Out: its two parameters, checked."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BM25Config:
    """The two parameters of BM25, by default as Anserini and Pyserini set them."""

    k1: float = 0.9
    """Saturation of repeated terms, 0 or more; 0 counts each term once."""
    b: float = 0.4
    """How far long passages are held back, 0 (not at all) to 1 (in proportion)."""

    def __post_init__(self) -> None:
        if not 0 <= self.k1 < float("inf"):
            raise ValueError(
                f"k1 is {self.k1}; it is a finite number from 0 up, usually 0.9 to 1.5."
            )
        if not 0 <= self.b <= 1:
            raise ValueError(f"b is {self.b}; it lies between 0 and 1, usually 0.4 to 0.75.")
