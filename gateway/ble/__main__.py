"""The radio's process; `store-gateway run ble@NAME` calls `run`."""

from gateway.ble.driver import run

__all__ = ["run"]
