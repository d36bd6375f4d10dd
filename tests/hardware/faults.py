"""What is shown of faults: processes killed and hung, the line pulled, the power cut; and the books at the end."""

import contextlib
import json
import random
import threading
import time
from typing import Any, Final

from tests.hardware.machine import Failed
from tests.hardware.outside import STORE
from tests.hardware.shop import PROGRAM, UNITS, Queue, Shop

LOAD_PER_CUT: Final = 40  # codes; more than are redeemed before the cut comes
BACK_S: Final = 240  # an emulated machine starts Python ten times more slowly than a real one
HUNG_S: Final = 240  # the longest WatchdogSec= is a minute
PEOPLE_WAIT_S: Final = 90


def killed(shop: Shop) -> str:
    """kill -9 of every unit's process: systemd brings each back."""
    before = _processes(shop)
    shop.machine.sh(f"kill -9 {' '.join(before.values())}")
    took_s = _replaced(shop, before, BACK_S, "after kill -9")
    _serves(shop, "after kill -9")
    return f"{len(before)} processes killed at once, all active again after {took_s:.0f} s; a voucher redeemed"


def hung(shop: Shop) -> str:
    """SIGSTOP of every unit's process: the watchdog ends it, systemd brings it back."""
    before = _processes(shop)
    shop.machine.sh(f"kill -STOP {' '.join(before.values())}")
    took_s = _replaced(shop, before, HUNG_S, "after SIGSTOP")
    said = shop.machine.sh("journalctl -b -q --no-pager -o cat -u 'store-*' | grep -c 'Watchdog timeout'", check=False).strip()
    if int(said or 0) < len(before):
        raise Failed(f"systemd's journal tells of {said} watchdog timeouts for {len(before)} hung processes")
    _serves(shop, "after the watchdog")
    return f"{len(before)} processes stopped at once, ended by the watchdog ({said} timeouts) and active again after {took_s:.0f} s"


def line_pulled(shop: Shop, number: int = 20) -> str:
    """The cable is pulled, people go on redeeming, the cable is plugged in: headquarters has each of them once."""
    vouchers = shop.headquarters.vouchers(number)
    calls = shop.redeeming(vouchers)
    shop.machine.line(up=False)
    shop.machine.until(lambda: not shop.view()["line"]["up"], 90, "the shop did not notice that the line was down")
    before = _stored(shop)
    queue = shop.begin(calls, patience_s=PEOPLE_WAIT_S, pause_s=0.1)
    answered = sum(status == 200 for _, status in queue.told())
    queue.close()
    if answered != number:
        raise Failed(f"{answered} of {number} were answered while the line was down")
    waiting = shop.view()["line"]["waiting"]
    if _stored(shop) != before:
        raise Failed("headquarters heard something while the cable was out")
    shop.machine.line(up=True)
    plugged_s = time.monotonic()
    shop.machine.until(lambda: _drained(shop), 180, "not everything arrived")
    stored = _stored(shop) - before
    if stored != number:
        raise Failed(f"{number} redeemed while the line was down, {stored} at headquarters")
    took_s = time.monotonic() - plugged_s
    return f"{number} redeemed with the cable out, {waiting} rows waited, all there {took_s:.0f} s after plugging in, each once"


class PowerCuts:
    """Cuts the power under people who redeem, again and again."""

    def __init__(self, shop: Shop, line_port: int, cuts: int, seed: int) -> None:
        self._shop = shop
        self._line_port = line_port
        self._cuts = cuts
        self._random = random.Random(seed)
        self._seed = seed
        self._answered = 0
        self._redone = 0

    def show(self) -> str:
        """Whatever was answered is still answered the same, and whatever was not is answered now."""
        boots = []
        for number in range(1, self._cuts + 1):
            boots.append(self._once(number))
            self._shop.machine.told(f"  power cut {number}: {self._answered} answers so far, serving again after {boots[-1]:.0f} s")
        longest = max(boots)
        unflushed, lost = self._shop.machine.lost_pieces()
        return (
            f"{self._cuts} cuts (seed {self._seed}), {self._answered} answers heard before them, all there and the same afterwards; "
            f"{self._redone} unanswered ones answered on retry; the disk lost or tore {lost} of {unflushed} unflushed pieces; "
            f"power to redeeming in {longest:.0f} s at most"
        )

    def _once(self, number: int) -> float:
        shop = self._shop
        calls = shop.redeeming(shop.headquarters.vouchers(LOAD_PER_CUT))
        answered = self._redeem_until_cut(calls)
        self._answered += len(answered)
        power_s = time.monotonic()
        shop.machine.boot(self._line_port)
        pending = [call for call in calls if call[2]["presentation_id"] not in answered]
        # The first call of all waits until core serves; then everybody asks again, the answered ones first.
        asked = [call for call in calls if call[2]["presentation_id"] in answered] + pending[:3]
        replies = shop.ask(asked, patience_s=BACK_S, timeout_s=BACK_S + 120)
        serving_s = time.monotonic() - power_s
        self._judge(number, asked, replies, answered)
        return serving_s

    def _redeem_until_cut(self, calls: list[list[Any]]) -> dict[str, str]:
        """Answers heard until the power went."""
        shop, machine = self._shop, self._shop.machine
        queue: Queue = shop.begin(calls, patience_s=5, pause_s=0.02)
        after = self._random.randrange(3, LOAD_PER_CUT // 2)
        cutter = threading.Timer(PEOPLE_WAIT_S, machine.cut)  # if nobody is answered at all
        cutter.start()
        heard, cutting = dict[str, str](), None
        for presentation, status in queue.told():
            if status == 200:
                heard[presentation] = shop.heard.answers[presentation]
            if len(heard) >= after and cutting is None:  # a moment later, at any point of somebody else's redemption
                cutting = threading.Timer(self._random.random() * 0.5, machine.cut)
                cutting.start()
        cutter.cancel()
        if cutting is not None:
            cutting.join()
        queue.close()
        if len(heard) < after:
            raise Failed(f"only {len(heard)} of {len(calls)} were answered before the cut")
        return heard

    def _judge(self, number: int, asked: list[list[Any]], replies: list[dict[str, Any]], answered: dict[str, str]) -> None:
        for call, reply in zip(asked, replies, strict=True):
            presentation = call[2]["presentation_id"]
            if reply["status"] != 200:
                raise Failed(f"cut {number}: after the cut core says {reply['status']}: {reply['body'][:120]}")
            if presentation in answered and answered[presentation] != reply["body"]:
                raise Failed(f"cut {number}: told before the cut {answered[presentation][:160]}, after it {reply['body'][:160]}")
            if json.loads(reply["body"])["decision"] != "redeemed":
                raise Failed(f"cut {number}: a good code was answered {reply['body'][:160]}")
            self._shop.heard.answers[presentation] = reply["body"]
            self._redone += presentation not in answered


def everything_once(shop: Shop) -> str:
    """Headquarters has every redemption anybody was told of, each once, and no code can be used again."""
    shop.machine.until(lambda: _drained(shop), 240, "the lanes did not drain")
    told = {p: json.loads(answer) for p, answer in shop.heard.answers.items()}
    redeemed = [shop.heard.vouchers[p] for p, answer in told.items() if answer["decision"] == "redeemed"]
    if len(redeemed) != len(set(redeemed)):
        raise Failed("a voucher was redeemed twice")
    missing = [voucher for voucher in redeemed if shop.headquarters.get(f"/api/vouchers/{voucher}")["used"] != 1]
    if missing:
        raise Failed(f"headquarters does not have {len(missing)} of {len(redeemed)}")
    books = shop.headquarters.get("/api/books")
    if books["unexplained"] or books["quarantined"] or books["rejected"]:
        raise Failed(f"the books: { ({key: value for key, value in books.items() if key != 'entries'}) }")
    some = redeemed[:: max(1, len(redeemed) // 10)]
    tokens = {shop.heard.vouchers[p]: shop.heard.tokens[p] for p in told}
    again = shop.ask(shop.redeeming([{"voucher_id": voucher, "token": tokens[voucher]} for voucher in some]), patience_s=30)
    if any(json.loads(reply["body"]).get("decision") != "refused" for reply in again):
        raise Failed("a code could be used again")
    epochs = len({entry["epoch"] for entry in books["entries"]})
    return (
        f"{len(redeemed)} redemptions, each once at headquarters; {books['received']} rows in {epochs} epochs, none missing; "
        f"{len(again)} second tries refused"
    )


def doctor(shop: Shop) -> str:
    """`store-gateway doctor`: nothing fails once the devices have had their time after the last boot."""
    with contextlib.suppress(Failed):  # what is still down then, doctor names
        shop.machine.until(lambda: all(unit["device_state"] != "down" for unit in shop.view()["units"]), 120, "a device is down")
    findings = json.loads(shop.machine.sh(f"{PROGRAM} doctor --json", check=False, timeout_s=180))
    found = findings["checks"]
    states: dict[str, list[str]] = {}
    for one in found:
        states.setdefault(one["state"], []).append(" ".join(filter(None, (one["id"], one["subject"]))))
    told = "; ".join(f"{state}: {', '.join(names)}" for state, names in states.items() if state != "ok")
    if "fail" in states:
        raise Failed(told)
    return f"{len(states.get('ok', []))} ok; {told}"


# ---------------------------------------------------------------- looking


def _processes(shop: Shop) -> dict[str, str]:
    units = shop.machine.units()
    return {unit: units[unit]["MainPID"] for unit in UNITS if units[unit]["MainPID"] != "0"}


def _replaced(shop: Shop, before: dict[str, str], within_s: float, when: str) -> float:
    began_s = time.monotonic()
    wrong = list(before)

    def back() -> bool:
        units = shop.machine.units()
        wrong[:] = [u for u in before if units[u]["ActiveState"] != "active" or units[u]["MainPID"] in ("0", before[u])]
        return not wrong

    try:
        shop.machine.until(back, within_s, f"not all came back {when}")
    except Failed as error:
        raise Failed(f"{error}: {', '.join(wrong)}") from error
    return time.monotonic() - began_s


def _serves(shop: Shop, when: str) -> None:
    """Somebody redeems a voucher."""
    queue = shop.begin(shop.redeeming(shop.headquarters.vouchers(1)), patience_s=PEOPLE_WAIT_S, pause_s=0)
    statuses = [status for _, status in queue.told()]
    queue.close()
    if statuses != [200]:
        raise Failed(f"core did not redeem {when}: {statuses}")


def _stored(shop: Shop) -> int:
    return int(shop.headquarters.get(f"/api/stores/{STORE}/counts")["total"]["redemptions"])


def _drained(shop: Shop) -> bool:
    line = shop.view()["line"]
    return bool(line["up"]) and line["waiting"] == 0
