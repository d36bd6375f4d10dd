"""The entry of a scanner process: `store-gateway run scanner@NAME` calls `run`."""

from gateway.scanner.driver import run

__all__ = ["run"]
