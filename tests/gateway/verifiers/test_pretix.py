"""Tickets of pretix: read as pretix writes them, refused where they say what nobody here understands."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codes import CodeKind, recognise
from gateway.errors import MalformedFrame
from gateway.token import BadSignature, UnknownKey
from gateway.verifiers import pretix, verify
from gateway.verifiers.keyring import reason_of
from gateway.verifiers.presented import FOREVER_S
from gateway.verifiers.pretix import HEAD, Ticket
from tests.conftest import STRANGER_KEY
from tests.gateway.verifiers.issuers import END_S, PRETIX_SECRET, START_S, a_jwt, a_ticket, jwt_key, pretix_key, ring

KEYS = ring(pretix_key())
ANY_ITEM = ring(pretix_key(campaigns={}))
IDS = st.integers(1, 2**63 - 1)
TICKETS = st.builds(
    Ticket, seed=st.text("abcdefghkmnpqrstuvwxyz23456789", min_size=9, max_size=40).map(str.encode), item=IDS, variation=st.just(0) | IDS,
    subevent=st.just(0) | IDS, valid_from_s=st.integers(0, 2**40), valid_until_s=st.integers(0, 2**40),
)  # fmt: skip


def sealed(payload: bytes, version: int = 1, payload_b: int | None = None, signature_b: int = 64, more: bytes = b"") -> str:
    """Rightly signed, whatever it says."""
    raw = HEAD.pack(version, len(payload) if payload_b is None else payload_b, signature_b) + payload + PRETIX_SECRET.sign(payload) + more
    return base64.b64encode(raw).decode()[::-1]


def test_the_layout_is_pretixs() -> None:
    """01 | len u16 | len u16 | protobuf | signature; field 1 the seed, field 2 the item; base64, backwards."""
    payload = b"\x0a\x09x7Kq0Zp1w\x10\x03"
    raw = b"\x01" + len(payload).to_bytes(2, "big") + (64).to_bytes(2, "big") + payload + PRETIX_SECRET.sign(payload)
    assert a_ticket() == base64.b64encode(raw).decode()[::-1]


@given(TICKETS)
def test_what_was_signed_comes_back(ticket: Ticket) -> None:
    text = pretix.sign(ticket, PRETIX_SECRET)
    assert recognise(text.encode()).kind is CodeKind.PRETIX
    terms = verify(text, ANY_ITEM).terms
    assert terms.not_after_s == min(ticket.valid_until_s or FOREVER_S, FOREVER_S)
    assert terms.not_before_s == min(ticket.valid_from_s, FOREVER_S)
    assert (terms.issuer, terms.store, terms.uses) == (6, 7, 1)


@pytest.mark.parametrize(
    ("ticket", "campaign"),
    [
        (Ticket(seed=b"s", item=3), 11),
        (Ticket(seed=b"s", item=3, variation=5), 11),
        (Ticket(seed=b"s", item=4, variation=2), 12),
        (Ticket(seed=b"s", item=4), None),
        (Ticket(seed=b"s", item=4, variation=3), None),
        (Ticket(seed=b"s", item=5, subevent=9), 13),
        (Ticket(seed=b"s", item=3, subevent=9), None),  # one date of a series, and headquarters has not said which
        (Ticket(seed=b"s", item=9), None),
    ],
)
def test_an_item_is_of_the_campaign_headquarters_maps_it_to(ticket: Ticket, campaign: int | None) -> None:
    keys = ring(pretix_key(campaigns={"3": 11, "4/2": 12, "5/0/9": 13}))
    if campaign is not None:
        assert verify(pretix.sign(ticket, PRETIX_SECRET), keys).terms.campaign == campaign
        return
    with pytest.raises(MalformedFrame) as caught:
        verify(pretix.sign(ticket, PRETIX_SECRET), keys)
    assert reason_of(caught.value) == "unknown_item"


SEED, ITEM = b"\x0a\x09x7Kq0Zp1w", b"\x10\x03"
BAD_PAYLOADS = {
    "empty": b"",
    "no seed": ITEM,
    "no item": SEED,
    "item nought": SEED + b"\x10\x00",
    "an empty seed": b"\x0a\x00" + ITEM,
    "a field twice": SEED + ITEM + b"\x10\x04",
    "a seed twice": SEED + SEED + ITEM,
    "a field of tomorrow": SEED + ITEM + b"\x38\x01",
    "field nought": SEED + ITEM + b"\x00\x01",
    "another wire type": SEED + b"\x12\x01\x03",
    "a fixed number": SEED + b"\x15\x03\x00\x00\x00",
    "a group": SEED + ITEM + b"\x1b\x1c",
    "a long spelling": SEED + b"\x10\x83\x00",
    "a longer one": SEED + b"\x10\x83" + b"\x80" * 7 + b"\x00",
    "ten bytes": SEED + b"\x10" + b"\xff" * 9 + b"\x01",
    "below nought": SEED + b"\x10" + b"\xff" * 9 + b"\x7f",
    "endless": SEED + b"\x10" + b"\xff" * 80,
    "cut in a number": SEED + b"\x10",
    "cut in the seed": b"\x0a\x40x7K",
    "a seed beyond everything": b"\x0a\xff\xff\xff\xff\x0fx" + ITEM,
    "a key in a long spelling": SEED + b"\x90\x00\x03",
}


@pytest.mark.parametrize("about", BAD_PAYLOADS)
def test_a_payload_that_is_not_understood_is_refused_though_rightly_signed(about: str) -> None:
    with pytest.raises(MalformedFrame) as caught:
        pretix.verify(sealed(BAD_PAYLOADS[about]), ANY_ITEM)
    assert reason_of(caught.value) == "unreadable"


@pytest.mark.parametrize(
    "frame",
    [{"version": 2}, {"version": 0}, {"payload_b": 12}, {"payload_b": 2**16 - 1}, {"signature_b": 63}, {"signature_b": 0}, {"more": b"\0"}],
)
def test_a_frame_that_does_not_add_up_is_refused(frame: dict[str, int]) -> None:
    with pytest.raises(MalformedFrame):
        pretix.verify(sealed(SEED + ITEM, **frame), ANY_ITEM)  # type: ignore[arg-type]
    assert verify(sealed(SEED + ITEM), ANY_ITEM).terms.issuer == 6


def test_a_strangers_signature_does_not_verify() -> None:
    with pytest.raises(BadSignature):
        verify(pretix.sign(Ticket(seed=b"x7Kq0Zp1w", item=3), STRANGER_KEY), KEYS)
    with pytest.raises(UnknownKey):
        verify(a_ticket(), ring(jwt_key()))


def test_of_several_events_each_ticket_finds_its_key() -> None:
    keys = ring(pretix_key(issuer=8, public=jwt_key().public), pretix_key(), jwt_key())
    assert verify(a_ticket(), keys).terms.issuer == 6
    assert verify(a_jwt(), keys).terms.issuer == 5


@given(st.integers(0, len(a_ticket()) - 1), st.characters(codec="ascii"))
def test_no_changed_letter_verifies(place: int, letter: str) -> None:
    text = a_ticket()
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(MalformedFrame):
            pretix.verify(changed, KEYS)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: base64.b64encode(raw).decode()[::-1]))
def test_any_text_is_a_ticket_or_malformed(text: str) -> None:
    with pytest.raises(MalformedFrame):
        pretix.verify(text, KEYS)


@given(st.binary(max_size=120))
def test_any_payload_rightly_signed_is_terms_or_malformed(payload: bytes) -> None:
    try:
        terms = pretix.verify(sealed(payload), ANY_ITEM).terms
    except MalformedFrame:
        return
    assert terms.issuer == 6


def test_times_of_a_ticket_bind() -> None:
    ticket = Ticket(seed=b"x7Kq0Zp1w", item=3, valid_from_s=START_S, valid_until_s=END_S)
    terms = verify(a_ticket(ticket), KEYS).terms
    assert (terms.not_before_s, terms.not_after_s) == (START_S, END_S)
