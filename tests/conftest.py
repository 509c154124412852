"""Fixtures shared by all tests: the folder of real public data, where it is there."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real public data beside the checkout; the test is skipped where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside this checkout (../shared/data)")
    return folder
