"""Passages, the indexes that find them, and what stands before an index: cache, batching, a client."""

from .batching import MicroBatcher
from .bm25 import BM25Config, BM25Index
from .cache import CachedRetriever, CacheStats
from .client import RemoteRetriever, RetrieverError
from .dense import DenseIndex
from .dense_import import import_faiss
from .encoder import EncoderConfig, SentenceEncoder
from .hybrid import HybridRetriever
from .index_folder import IndexMetadata, check_replaceable, read_index_metadata
from .loading import load_index
from .lucene import LuceneIndex
from .passages import Hit, Passage, read_passages
from .replay import RecordingRetriever, ReplayRetriever
from .rerank import CrossEncoderReranker, RerankConfig
from .retriever import Retriever, check_search
from .rows import LocatedRow, Row, read_located_rows, read_rows, write_rows

__all__ = [
    "BM25Config",
    "BM25Index",
    "CacheStats",
    "CachedRetriever",
    "CrossEncoderReranker",
    "DenseIndex",
    "EncoderConfig",
    "Hit",
    "HybridRetriever",
    "IndexMetadata",
    "LocatedRow",
    "LuceneIndex",
    "MicroBatcher",
    "Passage",
    "RecordingRetriever",
    "RemoteRetriever",
    "ReplayRetriever",
    "RerankConfig",
    "Retriever",
    "RetrieverError",
    "Row",
    "SentenceEncoder",
    "check_replaceable",
    "check_search",
    "import_faiss",
    "load_index",
    "read_index_metadata",
    "read_located_rows",
    "read_passages",
    "read_rows",
    "write_rows",
]
