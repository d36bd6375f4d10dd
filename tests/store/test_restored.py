"""Old images put back, of the box's disk and of headquarters' database: nothing is redeemed twice unseen, and the books close."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_bridge.hq.keeping import backup_command
from gateway.schema import migrate
from tests.store.running import RunningStore
from virtual_store.web import Refused, Web

pytestmark = [pytest.mark.slow]
ASK = {"store": "tpe-001", "title_zh": "券", "title_en": "Voucher", "value_minor": 300}


class Till:
    """A paired till that keeps its mark, as `gateway/kiosk/witness.py` tells it to."""

    def __init__(self, store: RunningStore) -> None:
        addresses = store.starter.addresses
        assert addresses is not None
        manager, self.web = Web(store.starter.plan.kiosk_url), Web(store.starter.plan.kiosk_url)
        store.call(manager.post("/v1/staff/sign-in", {"staff_ref": addresses.clerk_ref, "pin": addresses.clerk_pin}))
        asked = store.call(self.web.post("/v1/pairings", {"station": "entrance", "kind": "pos", "name": "till"}))
        store.call(manager.post("/v1/staff/pairings", {"code": asked["code"]}))
        self.web.token = store.call(self.web.post("/v1/pairings/claim", {"ask": asked["ask"]}))["key"]
        self.kept = ""
        self._store = store

    def present_mark(self) -> str:
        """Connect: hand in the kept mark; keep the answer's if there is none yet."""
        body = {"station": "entrance", "mark": self.kept}
        said = self._store.eventually(lambda: self._store.call(self.web.post("/v1/witness", body)), 20)
        if not self.kept or said["word"] == "vouches":
            self.kept = said["mark"]
        return str(said["word"])

    def redeem(self, token: str) -> dict[str, Any]:
        """Present a code, again until core is there."""
        body = json.dumps({"station": "entrance", "code": token, "presentation_id": secrets.token_hex(16)}).encode()
        while True:
            try:
                return dict(self.web.call("/v1/redeem", body))
            except Refused as error:
                assert error.status in (0, 503), error
                time.sleep(0.02)


class Disk:
    """The box's disk, copied and put back while its processes are dead; systemd's stand-in starts them again by itself."""

    def __init__(self, store: RunningStore, folder: Path) -> None:
        self._store = store
        self._state = store.starter.ledger.parent
        self._image = folder / "image"

    def copy(self) -> None:
        time.sleep(1.5)  # a cursor is on the disk within a second of its acknowledgement
        with self._dead():
            shutil.copytree(self._state, self._image)

    def put_back(self) -> None:
        with self._dead():
            shutil.rmtree(self._state)
            shutil.copytree(self._image, self._state)

    def lose(self) -> None:
        """The ledger's files are gone; at the next start its tables are made, as a unit's first step does."""
        with self._dead():
            for path in self._state.glob("ledger*"):
                path.unlink()
            migrate(self._store.starter.ledger)

    @contextlib.contextmanager
    def _dead(self) -> Iterator[None]:
        kept = [self._store.starter.keeper.kept[name] for name in ("core", "bridge")]
        before = [one.pid for one in kept]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        for pid in before:
            while Path(f"/proc/{pid}/cwd").exists():
                time.sleep(0.001)
        yield
        for one, pid in zip(kept, before, strict=True):
            self._store.until(lambda one=one, pid=pid: one.pid != pid, 15, "nobody started it again")  # type: ignore[misc]


@pytest.fixture
def disk(whole_store: RunningStore, tmp_path: Path) -> Disk:
    return Disk(whole_store, tmp_path)


def voucher(store: RunningStore) -> str:
    return str(store.hq_post("/api/vouchers", ASK)["token"])


def start_at_hq(store: RunningStore) -> Any:
    return store.hq_get("/api/stores")[0]["start"]


def admission(store: RunningStore) -> Any:
    return store.view()["admission"]


def settled(store: RunningStore) -> None:
    """Until the box is admitted and headquarters has heard of it."""
    store.until(lambda: bool(admission(store)["admitted"]), 30, "the box was not admitted")
    store.until(lambda: start_at_hq(store)["exposure"] is None, 30, "headquarters still counts an exposure")


def test_with_a_line_an_old_image_honours_nothing_until_headquarters_has_opened_it(whole_store: RunningStore, disk: Disk) -> None:
    till, token = Till(whole_store), voucher(whole_store)
    whole_store.drained()
    disk.copy()
    settled(whole_store)
    assert till.redeem(token)["decision"] == "redeemed"
    whole_store.drained()
    disk.put_back()
    reasons = set[str]()
    ends_s = time.monotonic() + 30
    while "already_redeemed" not in reasons:
        answer = till.redeem(token)
        assert answer["decision"] == "refused", "an old image redeemed a used voucher"
        reasons.add(answer["reason"])
        assert time.monotonic() < ends_s, f"never opened: {reasons}, {admission(whole_store)}, {start_at_hq(whole_store)}"
        time.sleep(0.05)
    assert reasons <= {"already_redeemed", "not_admitted"}
    assert admission(whole_store)["how"] == "opening"
    settled(whole_store)
    start = start_at_hq(whole_store)
    assert {alarm["kind"] for alarm in start["alarms"]} & {"two_children", "mark_above_claim"}
    assert (start["overused"]["uses"], start["opening"]["applied_us"] > 0) == (0, True)
    assert till.redeem(voucher(whole_store))["decision"] == "redeemed"


@pytest.mark.parametrize("line_is_up", [True, False])
def test_a_box_whose_ledger_is_gone_is_not_taken_for_a_new_one(whole_store: RunningStore, disk: Disk, line_is_up: bool) -> None:
    till, token = Till(whole_store), voucher(whole_store)
    whole_store.drained()
    settled(whole_store)
    assert till.redeem(token)["decision"] == "redeemed"
    whole_store.drained()
    if not line_is_up:
        whole_store.cut_line()
    disk.lose()
    if not line_is_up:
        whole_store.until(lambda: admission(whole_store)["state"] == "waiting", 30, "it is not waiting for headquarters")
        assert not admission(whole_store)["admitted"]
        whole_store.mend_line()
    settled(whole_store)
    assert admission(whole_store)["how"] == "opening"
    assert {alarm["kind"] for alarm in start_at_hq(whole_store)["alarms"]} & {"second_root", "new_ledger"}
    assert Till(whole_store).redeem(token)["reason"] == "already_redeemed"


def test_without_a_line_a_witness_stops_an_old_image(whole_store: RunningStore, disk: Disk) -> None:
    till, token = Till(whole_store), voucher(whole_store)
    assert till.present_mark() == "nothing"
    whole_store.drained()
    disk.copy()
    settled(whole_store)
    assert till.redeem(token)["decision"] == "redeemed"
    whole_store.drained()
    assert till.present_mark() == "vouches"
    whole_store.cut_line()
    disk.put_back()
    assert till.present_mark() == "contradicts"
    assert admission(whole_store)["doubt"] == "witness"
    for _ in range(3):
        assert till.redeem(token)["reason"] == "not_admitted"
    whole_store.kill("core")  # and a restart does not make it forget
    till.present_mark()
    assert till.redeem(token)["reason"] == "not_admitted"
    whole_store.mend_line()
    settled(whole_store)
    assert till.redeem(token)["reason"] == "already_redeemed"
    assert till.present_mark() == "vouches"


def test_with_neither_it_is_counted_as_exposure_once_the_line_is_back(whole_store: RunningStore, disk: Disk) -> None:
    till, token = Till(whole_store), voucher(whole_store)
    whole_store.drained()
    disk.copy()
    settled(whole_store)
    assert till.redeem(token)["decision"] == "redeemed"
    whole_store.drained()
    whole_store.cut_line()
    disk.put_back()
    whole_store.until(lambda: bool(admission(whole_store)["admitted"]), 30, "a shop without line and witness was locked")
    assert till.redeem(token)["decision"] == "redeemed"  # nobody here can know
    before = start_at_hq(whole_store)["overused"]["uses"]
    whole_store.mend_line()
    whole_store.until(lambda: start_at_hq(whole_store)["overused"]["uses"] == before + 1, 30, "the second use was not booked")
    settled(whole_store)
    assert till.redeem(token)["reason"] == "already_redeemed"


def test_headquarters_restored_from_last_nights_backup_is_filled_by_its_shops(whole_store: RunningStore, tmp_path: Path) -> None:
    data, till, night = whole_store.starter.plan.hq_dir, Till(whole_store), tmp_path / "night.db"
    first, second = voucher(whole_store), voucher(whole_store)
    assert till.redeem(first)["decision"] == "redeemed"
    whole_store.drained()
    backup_command(data, night, lambda done, all_: None)
    assert till.redeem(second)["decision"] == "redeemed"
    whole_store.kill("core")  # a start headquarters will not know of
    whole_store.drained()
    before = whole_store.hq_get("/api/stores/tpe-001/counts")["total"]
    whole_store.restore_hq(night)

    def filled() -> bool:
        books = whole_store.eventually(lambda: whole_store.hq_get("/api/books"), 20)
        total = whole_store.eventually(lambda: whole_store.hq_get("/api/stores/tpe-001/counts"), 20)["total"]
        return bool(books["waiting"] == 0 and books["unexplained"] == 0 and total["redemptions"] >= before["redemptions"])

    whole_store.until(filled, 60, "headquarters' hole was not filled")
    assert whole_store.hq_get("/api/stores/tpe-001/counts")["total"]["redemptions"] == before["redemptions"]
    assert till.redeem(second)["reason"] == "already_redeemed"
    assert till.redeem(voucher(whole_store))["decision"] == "redeemed"  # documents pressed since are newer than what the shop holds
