"""Options of the whole test run."""

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy one is slow, and that is no failure
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where pictures of the pages go; how long a test looks for trouble."""
    parser.addoption("--screenshots", default="build/screenshots", help="folder for pictures of the pages (default: build/screenshots)")
    parser.addoption("--bit-flips", type=int, default=0, help="how many bits of a ledger's files turn over, one at a time (default: a few)")
