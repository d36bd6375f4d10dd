"""The whole store, for its own tests: they run against a whole store."""

from tests.store.running import whole_store

__all__ = ["whole_store"]
