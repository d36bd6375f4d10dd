"""A box that is well, until a test breaks it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.provisioning.shop import Shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A healthy box nobody runs yet. Its folder's path is short, for a socket's sake, and open, so that others may try."""
    with tempfile.TemporaryDirectory(prefix="sgd-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Shop(Path(folder) / "box")
