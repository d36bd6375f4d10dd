"""Bytes to sightings: layouts as their specifications print them, and any bytes at all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble.advert import (
    MANUFACTURER_READERS,
    SERVICE_READERS,
    AltBeacon,
    EddystoneUid,
    IBeacon,
    LineAmbiguous,
    LineBeacon,
    LineSimpleBeacon,
    Phone,
    Unreadable,
    ibeacon_identity,
    parse,
    parse_apple,
    parse_fields,
    parse_ibeacon,
    parse_line,
    usable,
)
from gateway.errors import MalformedFrame

TAIL = "-0000-1000-8000-00805f9b34fb"
IBEACON = bytes.fromhex("0201061aff4c000215d0d2ce249efc11e582c41c6a7a17ef384c494e45c5")
ALTBEACON = bytes.fromhex("0201061bff1801beac" + "00112233445566778899aabbccddeeff00010002" + "bf07")
EDDYSTONE = bytes.fromhex("0201060303aafe1716aafe00ee00010203040506070809aabbccddeeff0000")
LINE_HEAD = "0201060303 6ffe "
HWID = "01deadbeef"


def line(power: str, message: str, hwid: str = HWID) -> bytes:
    body = bytes.fromhex("6ffe02" + hwid + power + message)
    return bytes.fromhex(LINE_HEAD) + bytes([len(body) + 1, 0x16]) + body


def test_an_ibeacon_is_read_with_all_its_fields() -> None:
    assert parse(IBEACON) == (IBeacon("d0d2ce249efc11e582c41c6a7a17ef38", 0x4C49, 0x4E45, -59),)


def test_an_altbeacon_is_read_from_any_company() -> None:
    beacon = "00112233445566778899aabbccddeeff00010002"
    assert parse(ALTBEACON) == (AltBeacon(0x0118, beacon, -65, 7),)
    apple = ALTBEACON[:5] + b"\x4c\x00" + ALTBEACON[7:]
    assert parse(apple) == (AltBeacon(0x004C, beacon, -65, 7),)


@pytest.mark.parametrize("cut", [0, 2])
def test_an_eddystone_uid_is_read_with_and_without_its_reserved_bytes(cut: int) -> None:
    ad = bytearray(EDDYSTONE[: len(EDDYSTONE) - cut])
    ad[7] -= cut
    assert parse(bytes(ad)) == (EddystoneUid("00010203040506070809", "aabbccddeeff", -18),)


def test_other_eddystone_frames_are_left_out() -> None:
    assert parse_fields({}, {"0000feaa" + TAIL: bytes.fromhex("10ee0067")}) == ()


def test_a_simple_beacon_keeps_its_device_message() -> None:
    assert parse(line("7f", "00")) == (LineSimpleBeacon(HWID, b"\x00"),)
    longest = line("7f", "00112233445566778899aabbcc")
    assert len(longest) == 31
    assert parse(longest) == (LineSimpleBeacon(HWID, bytes.fromhex("00112233445566778899aabbcc")),)


def test_a_line_beacon_with_a_measured_power_is_one() -> None:
    expected = LineBeacon(HWID, -59, bytes.fromhex("037cf6f1"), 0, 1)
    assert parse(line("c5", "037cf6f1000001")) == (expected,)
    assert parse(line("c5", "564cfb90123405")) == (LineBeacon(HWID, -59, bytes.fromhex("564cfb90"), 0x1234, 5),)


def test_seven_bytes_without_a_power_are_either_kind_of_line_beacon() -> None:
    assert parse(line("7f", "037cf6f1000001")) == (LineAmbiguous(HWID, bytes.fromhex("037cf6f1000001")),)


@pytest.mark.parametrize(("power", "message"), [("7f", ""), ("c5", "00"), ("c5", "0011223344556677")])
def test_a_line_frame_that_no_specification_allows_is_unreadable(power: str, message: str) -> None:
    assert parse(line(power, message)) == (Unreadable("LINE"),)


def test_too_long_a_device_message_is_unreadable() -> None:
    with pytest.raises(MalformedFrame):
        parse_line(bytes.fromhex("02" + HWID + "7f" + "00" * 14))


@pytest.mark.parametrize("message", ["10055118aabbcc", "0c0e00" + "11" * 13 + "10055118aabbcc", "1002abcd", "0f05c0112233aa"])
def test_what_iphones_send_by_themselves_is_a_phone(message: str) -> None:
    assert parse_apple(bytes.fromhex(message)) == Phone("apple")


@pytest.mark.parametrize("message", ["0719010220752b", "12190010", "0906030e0a00", "", "01"])
def test_earphones_and_lost_things_are_no_phones(message: str) -> None:
    assert parse_apple(bytes.fromhex(message)) is None


def test_other_makers_phones_are_known_by_company_or_service() -> None:
    assert parse_fields({0x0075: b"\x42\x04"}, {}) == (Phone("samsung"),)
    assert parse_fields({}, {"0000fef3" + TAIL: b"\x4a"}) == (Phone("google"),)


def test_a_frame_means_the_same_in_bytes_and_in_fields() -> None:
    assert parse_fields({0x004C: IBEACON[7:]}, {}) == parse(IBEACON)
    assert parse_fields({0x0118: ALTBEACON[7:]}, {}) == parse(ALTBEACON)
    assert parse_fields({}, {"0000feaa" + TAIL: EDDYSTONE[11:]}) == parse(EDDYSTONE)
    assert parse_fields({}, {"0000FE6F" + TAIL.upper(): line("7f", "00")[11:]}) == parse(line("7f", "00"))


def test_several_frames_in_one_advertisement_are_all_read() -> None:
    assert parse(IBEACON + EDDYSTONE[7:]) == parse(IBEACON) + parse(EDDYSTONE)


def test_a_torn_structure_ends_the_walk_but_not_what_was_read() -> None:
    assert parse(IBEACON + b"\x1a\xff\x4c\x00") == (*parse(IBEACON), Unreadable("AD structure"))


def test_padding_ends_the_walk() -> None:
    assert parse(IBEACON + b"\x00" + EDDYSTONE) == parse(IBEACON)


@pytest.mark.parametrize("rssi_dbm", [-127, 0, 127, -128, 21, 126])
def test_a_signal_strength_that_means_unknown_is_dropped(rssi_dbm: int) -> None:
    assert not usable(rssi_dbm)


@pytest.mark.parametrize("rssi_dbm", [-126, -60, -1, 20])
def test_a_measured_signal_strength_is_kept(rssi_dbm: int) -> None:
    assert usable(rssi_dbm)


def test_an_identity_of_the_configuration_matches_what_is_heard() -> None:
    heard = parse(IBEACON)[0]
    assert isinstance(heard, IBeacon)
    assert ibeacon_identity("D0D2CE24-9EFC-11E5-82C4-1C6A7A17EF38/19529/20037") == (heard.uuid, heard.major, heard.minor)


@pytest.mark.parametrize("text", ["", "a/b", "D0D2CE24-9EFC-11E5-82C4-1C6A7A17EF38/1/65536", "D0D2CE24/1/1", "zz/1/1", "a/1/1/1"])
def test_an_identity_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ibeacon_identity(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed(ad: bytes) -> None:
    assert len(parse(ad)) <= len(ad) // 3 + 1


KNOWN = [b"\x4c\x00\x02\x15", b"\x4c\x00\x10\x05", b"\x18\x01\xbe\xac", b"\xaa\xfe\x00", b"\x6f\xfe\x02", b"\x75\x00", b"\xf3\xfe"]


@given(
    st.lists(st.tuples(st.sampled_from([0x16, 0xFF, 0x01]), st.sampled_from(KNOWN), st.binary(max_size=40)), max_size=6),
    st.binary(max_size=4),
)
def test_anything_under_a_known_head_is_parsed(structures: list[tuple[int, bytes, bytes]], rest: bytes) -> None:
    ad = b"".join(bytes([len(head + body) + 1, kind]) + head + body for kind, head, body in structures)
    found = parse(ad + rest)
    assert len(found) <= len(structures) + len(rest)


@given(
    st.dictionaries(st.sampled_from(sorted(MANUFACTURER_READERS)) | st.integers(0, 0xFFFF), st.binary(max_size=64), max_size=4),
    st.dictionaries(
        st.sampled_from([f"0000{uuid:04x}{TAIL}" for uuid in SERVICE_READERS]) | st.text(max_size=40), st.binary(max_size=64), max_size=4
    ),
)
def test_any_fields_are_parsed(manufacturer: dict[int, bytes], service: dict[str, bytes]) -> None:
    assert len(parse_fields(manufacturer, service)) <= len(manufacturer) + len(service)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(-128, 127))
def test_every_ibeacon_comes_back_as_it_was_sent(uuid: bytes, major: int, minor: int, power_dbm: int) -> None:
    frame = b"\x02\x15" + uuid + struct.pack(">HHb", major, minor, power_dbm)
    assert parse_ibeacon(frame) == IBeacon(uuid.hex(), major, minor, power_dbm)


@given(st.binary(max_size=40).filter(lambda data: len(data) != 23))
def test_an_ibeacon_of_another_length_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        parse_ibeacon(b"\x02\x15" + data[2:] if len(data) >= 2 else data)
