"""Who a till or a shopper says it is for: a telephone number or a member's code, and whether they agreed to being joined to it."""

from typing import Final

from msgspec import Struct


class Whose(Struct, frozen=True):
    """As it was said; it is kept nowhere."""

    consent: bool = False
    phone: str | None = None
    code: str | None = None
    symbology_id: str = "]X0"

    @property
    def payload(self) -> bytes:
        """The code as a reader would have read it. Total: letters that no text has become question marks."""
        return (self.code or "").encode("utf-8", "replace")


NOBODY: Final = Whose()  # nothing was said
