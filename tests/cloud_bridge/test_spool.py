"""Documents on their way: gathered from pieces, announced once when whole, judged by nobody here."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_bridge.envelope import CHUNK_B, Chunk, Want
from cloud_bridge.spool import ASK_AGAIN_S, MAX_DOCUMENT_B, Spool
from gateway.signed import DocumentRef, Manifest, digest

DATA = random.Random(7).randbytes(2 * CHUNK_B + 1000)


def ref(data: bytes = DATA, version: int = 1, name: str = "vouchers") -> DocumentRef:
    return DocumentRef(name, version, digest(data), len(data))


def manifest(*refs: DocumentRef) -> Manifest:
    return Manifest("box-7", list(refs), 0)


def piece(want: Want, data: bytes = DATA) -> Chunk:
    return Chunk(want.name, want.version, want.offset, len(data), data[want.offset : want.offset + CHUNK_B])


def fetch(spool: Spool, data: bytes = DATA) -> None:
    for second in range(100):
        wants = spool.wants(float(second))
        if not wants:
            return
        for want in wants:
            spool.put(piece(want, data))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_a_document_is_asked_for_piece_by_piece_and_announced_once(spool: Spool) -> None:
    spool.heed(manifest(ref()))
    offsets = []
    for second in range(3):
        (want,) = spool.wants(float(second))
        offsets.append(want.offset)
        assert spool.arrived() == []
        spool.put(piece(want))
    assert offsets == [0, CHUNK_B, 2 * CHUNK_B]
    ((found, path),) = spool.arrived()
    assert (found, path.read_bytes()) == (ref(), DATA)
    assert spool.arrived() == []
    assert spool.wants(100.0) == []


def test_a_piece_that_does_not_come_is_asked_for_again_but_not_at_once(spool: Spool) -> None:
    spool.heed(manifest(ref()))
    assert len(spool.wants(0.0)) == 1
    assert spool.wants(ASK_AGAIN_S) == []
    assert spool.wants(ASK_AGAIN_S + 0.1) == [Want("vouchers", 1, 0)]


@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lost_doubled_and_strange_pieces_spoil_nothing(tmp_path: Path, data: st.DataObject) -> None:
    """After any weather, a quiet line brings the document whole."""
    folder = tmp_path / os.urandom(6).hex()
    spool = Spool(folder)
    spool.heed(manifest(ref()))
    now_s = 0.0
    for _ in range(data.draw(st.integers(0, 12))):
        now_s += data.draw(st.floats(0, 5))
        for want in spool.wants(now_s):
            good = piece(want)
            strange = [
                Chunk("orders", 1, 0, len(DATA), b"x"),
                Chunk(want.name, want.version + 1, want.offset, len(DATA), b"x"),
                Chunk(want.name, want.version, want.offset, len(DATA) + 1, b"x"),
                Chunk(want.name, want.version, want.offset + 1, len(DATA), b"x"),
                Chunk(want.name, want.version, want.offset, len(DATA), good.data[:-1] + b"x"),
                good,
                good,
            ]
            for chunk in data.draw(st.lists(st.sampled_from(strange), max_size=4)):
                spool.put(chunk)
        for found, path in spool.arrived():
            assert digest(path.read_bytes()) == found.sha256
    if not any(folder.glob("*.sealed")):
        for _ in range(8):
            now_s += ASK_AGAIN_S + 1
            for want in spool.wants(now_s):
                spool.put(piece(want))
    assert (folder / "vouchers.1.sealed").read_bytes() == DATA


def test_a_restart_keeps_what_is_whole_and_announces_it_again(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.heed(manifest(ref()))
    fetch(first)
    again = Spool(tmp_path)
    again.heed(manifest(ref()))
    assert again.wants(0.0) == []
    assert [found for found, _ in again.arrived()] == [ref()]


def test_a_file_that_rotted_is_fetched_again(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.heed(manifest(ref()))
    fetch(first)
    ((_, path),) = first.arrived()
    path.write_bytes(DATA[:-1] + b"\0")
    again = Spool(tmp_path)
    again.heed(manifest(ref()))
    assert again.arrived() == []
    fetch(again)
    assert [found for found, _ in again.arrived()] == [ref()]


def test_a_newer_version_replaces_one_under_way_and_its_file(spool: Spool, tmp_path: Path) -> None:
    spool.heed(manifest(ref()))
    spool.put(piece(spool.wants(0.0)[0]))
    newer = DATA + b"more"
    spool.heed(manifest(ref(newer, 2)))
    assert [(want.version, want.offset) for want in spool.wants(0.1)] == [(2, 0)]
    spool.put(piece(Want("vouchers", 2, 0), newer))
    fetch(spool, newer)
    spool.heed(manifest(ref(DATA, 3)))
    fetch(spool)
    assert [found.version for found, _ in spool.arrived()] == [3]
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["vouchers.3.sealed"]


def test_a_version_signed_anew_is_fetched_in_its_new_bytes(spool: Spool) -> None:
    """HQ's second word on the same version counts; the first fetch could never come to its end."""
    spool.heed(manifest(ref()))
    spool.put(piece(spool.wants(0.0)[0]))
    other = DATA[::-1]
    spool.heed(manifest(ref(other)))
    fetch(spool, other)
    assert [found.sha256 for found, _ in spool.arrived()] == [digest(other)]


def test_an_older_manifest_changes_nothing(spool: Spool) -> None:
    spool.heed(manifest(ref(version=5)))
    fetch(spool)
    spool.heed(manifest(ref(DATA + b"old", 4)))
    assert spool.wants(0.0) == []


def test_several_documents_come_side_by_side(spool: Spool) -> None:
    spool.heed(manifest(ref(), ref(name="orders"), ref(name="staff")))
    fetch(spool)
    assert {found.name for found, _ in spool.arrived()} == {"vouchers", "orders", "staff"}


def test_what_no_box_should_have_is_not_fetched(spool: Spool) -> None:
    strange = [ref(name="../../etc/passwd"), ref(name="weather"), DocumentRef("orders", 1, "00", MAX_DOCUMENT_B + 1)]
    spool.heed(manifest(*strange))
    assert spool.wants(0.0) == []
