"""In: the limits an operator chose. Out: the settings of a search service, checked."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What one worker of a search service takes on, and how it answers."""

    default_top_k: int = 3
    """Hits for a request whose ``topk`` is missing, null, 0 or negative."""
    max_top_k: int = 1000
    """Hits at most; a larger ``topk`` gets this many."""
    max_queries: int = 4096
    """Queries in one request; more are refused with 413."""
    max_query_chars: int = 10_000
    """Characters of a query that are searched for; a longer one is cut, and counted."""
    max_body_bytes: int = 32 << 20
    """Bytes of a request; more are refused with 413."""
    max_pending: int = 4096
    """Queries that may wait for a search; a request that finds no room gets 503 at once. One that
    finds nobody waiting is always taken."""
    max_wait_s: float = 2.0
    """Likewise, for the seconds that a new request would wait, as estimated from the last searches."""
    timeout_s: float = 25.0
    """Seconds until a request is given up with 504; below the 30 s after which clients do."""
    num_threads: int = 2
    """Searches that run at once where a search takes long; a short one runs without a thread."""
    max_batch: int = 64
    """Waiting queries that are handed to the index in one call."""
    batch_window_s: float = 0.002
    """Seconds that a dense index's first query waits for others to be searched with; 0 for those only
    that come while it searches."""
    inline_below_s: float = 0.002
    """Seconds per query below which handing a search to a thread costs more than it gives."""
    cache_bytes: int = 64 << 20
    """Bytes of answers kept in memory, the longest unused going first; 0 shares the searches in
    flight and keeps nothing."""
    token: str | None = field(default=None, repr=False)
    """What clients must send as ``Authorization: Bearer``; None asks for nothing."""

    def __post_init__(self) -> None:
        at_least_one = (
            "default_top_k",
            "max_top_k",
            "max_queries",
            "max_query_chars",
            "max_body_bytes",
            "max_pending",
            "num_threads",
            "max_batch",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more.")
        for name in ("max_wait_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use seconds above 0.")
        if self.default_top_k > self.max_top_k:
            raise ValueError(
                f"default_top_k is {self.default_top_k}, above max_top_k, {self.max_top_k}."
            )
        for name in ("batch_window_s", "inline_below_s", "cache_bytes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more.")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("token holds characters that a header cannot; use plain ASCII.")
        if self.token is not None and not self.token.strip():
            raise ValueError("token is empty; leave it out, or use a long random string.")
