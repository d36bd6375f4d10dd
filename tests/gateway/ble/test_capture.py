"""A capture from the air, corrupt frames among it, against what another program read in it."""

import csv
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from gateway.ble.advert import Phone, Unreadable, parse

CAPTURES = Path(__file__).parents[4] / "shared" / "data" / "ble" / "pcap"
ENHANCED_PACKET = 6
SNIFFER_HEADER = struct.Struct("<BHBHBBBBBHI")  # board, length, version, count, kind, length, flags, channel, -RSSI, event, µs
LEGACY_ADVERTISING = {0, 2, 4, 6}  # ADV_IND, ADV_NONCONN_IND, SCAN_RSP, ADV_SCAN_IND: an address, then AD structures

pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the captures of ../shared/data are not here")


class Frame(Struct):
    intact: bool
    rssi_dbm: int
    kind: int
    address: str
    ad: bytes


def frames(path: Path) -> Iterator[Frame]:
    """The advertising frames of a pcapng file of an nRF sniffer."""
    with gzip.open(path) as file:
        capture = file.read()
    at = 0
    while at < len(capture):
        block, length = struct.unpack_from("<II", capture, at)
        if block == ENHANCED_PACKET:
            (size,) = struct.unpack_from("<I", capture, at + 20)
            packet = capture[at + 28 : at + 28 + size]
            header = SNIFFER_HEADER.unpack_from(packet)
            pdu = packet[SNIFFER_HEADER.size + 4 : -3]  # without access address and CRC
            address = ":".join(f"{byte:02x}" for byte in pdu[7:1:-1])
            yield Frame(bool(header[6] & 1), -header[8], pdu[0] & 15, address, pdu[8 : 2 + pdu[1]])
        at += length


def test_a_captured_phone_is_a_phone_and_corruption_stops_nothing() -> None:
    heard = list(frames(CAPTURES / "anechoic_nrf52_0.pcapng.gz"))
    with gzip.open(CAPTURES / "anechoic_nrf52_0.csv.gz", "rt") as file:
        oracle = list(csv.DictReader(file))
    assert len(heard) == len(oracle) == 832
    assert len([frame for frame in heard if not frame.intact]) > 20
    phones = 0
    for frame, row in zip(heard, oracle, strict=True):
        sightings = parse(frame.ad)  # any bytes, whole or not
        if not frame.intact or frame.kind not in LEGACY_ADVERTISING:
            continue
        assert (frame.address, frame.rssi_dbm) == (row["Source"], int(row["RSSI"]))
        assert not any(isinstance(sighting, Unreadable) for sighting in sightings)
        assert row["Company"] == "76" or Phone("apple") not in sightings
        phones += Phone("apple") in sightings
    assert phones > 100
