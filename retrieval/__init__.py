"""Passages, the indexes that find them, and what stands before an index: cache, batching, service."""

from .batching import MicroBatcher
from .bm25 import BM25Config, BM25Index
from .cache import CachedRetriever, CacheStats
from .client import RemoteRetriever, RetrieverError
from .index_folder import IndexMetadata, check_replaceable, read_index_metadata
from .loading import load_index
from .passages import Hit, Passage, read_passages
from .replay import RecordingRetriever, ReplayRetriever
from .retriever import Retriever, check_search
from .rows import LocatedRow, Row, read_located_rows, read_rows, write_rows
from .service import RetrievalApp
from .service_config import ServiceConfig
from .service_process import run_service

__all__ = [
    "BM25Config",
    "BM25Index",
    "CacheStats",
    "CachedRetriever",
    "Hit",
    "IndexMetadata",
    "LocatedRow",
    "MicroBatcher",
    "Passage",
    "RecordingRetriever",
    "RemoteRetriever",
    "ReplayRetriever",
    "RetrievalApp",
    "Retriever",
    "RetrieverError",
    "Row",
    "ServiceConfig",
    "check_replaceable",
    "check_search",
    "load_index",
    "read_index_metadata",
    "read_located_rows",
    "read_passages",
    "read_rows",
    "run_service",
    "write_rows",
]
