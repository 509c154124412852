"""Passages, the indexes that find them, and the cache before an index."""

from .bm25 import BM25Config, BM25Index
from .cache import CachedRetriever, CacheStats
from .index_folder import IndexMetadata, check_replaceable, read_index_metadata
from .loading import load_index
from .passages import Hit, Passage, read_passages
from .retriever import Retriever, check_search
from .rows import LocatedRow, Row, read_located_rows, read_rows, write_rows

__all__ = [
    "BM25Config",
    "BM25Index",
    "CacheStats",
    "CachedRetriever",
    "Hit",
    "IndexMetadata",
    "LocatedRow",
    "Passage",
    "Retriever",
    "Row",
    "check_replaceable",
    "check_search",
    "load_index",
    "read_index_metadata",
    "read_located_rows",
    "read_passages",
    "read_rows",
    "write_rows",
]
