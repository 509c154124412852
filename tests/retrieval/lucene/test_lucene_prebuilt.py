"""Prebuilt indexes by name, as far as that goes without a network."""

from collections.abc import Callable

import pytest

JavaProcess = Callable[..., str]


def test_prebuilt_indexes_are_known_by_name(java_process: JavaProcess) -> None:
    pytest.importorskip("pandas", reason="Pyserini's download needs pandas")
    java_process(
        """
refuses(LookupError, "Did you mean cacm", lambda: LuceneIndex.open_prebuilt("cacmm"))
assert not {"torch", "transformers", "openai"} & set(sys.modules)
"""
    )


def test_prebuilt_indexes_need_pandas_and_say_so(java_process: JavaProcess) -> None:
    java_process(
        """
sys.modules["pandas"] = None
refuses(ImportError, "pip install pandas", lambda: LuceneIndex.open_prebuilt("cacm"))
"""
    )
