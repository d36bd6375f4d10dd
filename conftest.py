"""Options of the whole test run."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where pictures of the pages go."""
    parser.addoption("--screenshots", default="build/screenshots", help="folder for pictures of the pages (default: build/screenshots)")
