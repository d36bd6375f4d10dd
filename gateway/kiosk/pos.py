"""What requests that present a code have in common: the code, how it was read, and the key that makes a retry a retry."""

import re
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway.codes import MAX_PAYLOAD_B
from gateway.events import CodePresented

TYPED: Final = "]X0"
MARK_HEADER: Final = "sgw-mark"  # `kiosk.witness` says what a till does with it

Code = Annotated[str, Field(min_length=1, max_length=MAX_PAYLOAD_B, description="The code as read or typed; never stored.")]
PresentationId = Annotated[
    str, Field(pattern="^[0-9a-fA-F]{32}$", description="32 hex digits, new for each time a code is shown; the same for each retry.")
]
Symbology = Annotated[str, Field(pattern=r"^\][A-Za-z][0-9A-Za-z]$", description="AIM symbology identifier, if a reader read it.")]


class Strict(BaseModel):
    """A request body that has no other fields."""

    model_config = ConfigDict(extra="forbid")


def presented(code: str, presentation_id: str, symbology_id: str, read_point: str) -> CodePresented:
    """The event a request states.

    Raises:
        HTTPException: 422, the code is longer than any symbol holds, or no text.
    """
    try:
        payload = code.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can spell
        raise HTTPException(422, "bad_input") from error
    if len(payload) > MAX_PAYLOAD_B:
        raise HTTPException(422, "bad_input")
    return CodePresented(read_point, presentation_id.lower(), symbology_id, payload)


def idempotency(in_body: str | None, in_header: str | None) -> str:
    """The presentation id, from wherever it was given.

    Raises:
        HTTPException: 422, given nowhere, twice differently, or not 32 hex digits.
    """
    given = {found.strip().strip('"').replace("-", "").lower() for found in (in_body, in_header) if found is not None}
    if not given:
        raise HTTPException(422, "id_missing")
    if len(given) > 1:
        raise HTTPException(422, "id_differs")
    found = given.pop()
    if not re.fullmatch("[0-9a-f]{32}", found):
        raise HTTPException(422, "id_missing")
    return found
