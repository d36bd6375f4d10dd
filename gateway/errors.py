"""What can go wrong, sorted by who must act.

::

    StoreError                      carries `hint`: the next step, in one sentence
    ├── ConfigError                 the installer: exit status 78, no restart
    ├── DeviceError                 nobody: the driver tries again with backoff
    ├── BrokerError                 nobody: the bridge tries again with full jitter
    ├── LedgerError                 a person now: stop serving, the data may be at stake
    └── MalformedFrame              nobody: input from outside; count it, never log it per frame

A refusal of a voucher is none of these: it is an answer, so it is an event.
"""

from typing import Final

CONFIG_EXIT_STATUS: Final = 78  # EX_CONFIG of sysexits.h; systemd's RestartPreventExitStatus names it


class StoreError(Exception):
    """The root; `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}. {self.hint}" if self.hint else message


class ConfigError(StoreError):
    """The configuration cannot be used; only a person can mend it."""


class DeviceError(StoreError):
    """A device is absent, silent or talks rubbish; it may come back by itself."""


class BrokerError(StoreError):
    """The way to headquarters is closed for now."""


class LedgerError(StoreError):
    """The ledger cannot be written or trusted: nothing may be answered from it."""


class MalformedFrame(StoreError):
    """Bytes from outside do not have the shape their reader knows."""
