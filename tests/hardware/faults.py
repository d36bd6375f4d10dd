"""What is shown of faults: processes killed and hung, the line pulled; and the books and the doctor at the end."""

import contextlib
import json
import time
from typing import Any, Final

from tests.hardware.cuts import BACK_S, PEOPLE_WAIT_S
from tests.hardware.machine import Failed
from tests.hardware.outside import STORE
from tests.hardware.shop import PROGRAM, UNITS, Shop

HUNG_S: Final = 240  # the longest WatchdogSec= is a minute
SETTLED_S: Final = 240  # what starts last at a boot: the radio, once its controller is there


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
    """`store-gateway doctor`: nothing fails once everything has had its time after the last boot."""
    with contextlib.suppress(Failed):  # what has not joined or does not work by then, doctor names
        shop.machine.until(lambda: all(_well(unit) for unit in shop.view()["units"]), SETTLED_S, "not all units are well")
    found = json.loads(shop.machine.sh(f"{PROGRAM} doctor --json", check=False, timeout_s=180))["checks"]
    states: dict[str, list[str]] = {}
    for one in found:
        reason = f" ({one['what']['en']})" if one["state"] in ("warn", "fail") else ""
        states.setdefault(one["state"], []).append(" ".join(filter(None, (one["id"], one["subject"]))) + reason)
    told = "; ".join(f"{state}: {', '.join(names)}" for state, names in states.items() if state != "ok")
    if "fail" in states:
        raise Failed(told)
    return f"{len(states.get('ok', []))} ok; {told}"


def _well(unit: dict[str, Any]) -> bool:
    return bool(unit["connected"]) and unit["device_state"] == "up"


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
    shop.until_it_decides(BACK_S)
    queue = shop.begin(shop.redeeming(shop.headquarters.vouchers(1)), patience_s=PEOPLE_WAIT_S, pause_s=0)
    told = list(queue.told())
    queue.close()
    if not all(status == 200 and json.loads(shop.heard.answers[one])["decision"] == "redeemed" for one, status in told) or not told:
        raise Failed(f"core did not redeem {when}: {told}")


def _stored(shop: Shop) -> int:
    return int(shop.headquarters.get(f"/api/stores/{STORE}/counts")["total"]["redemptions"])


def _drained(shop: Shop) -> bool:
    line = shop.view()["line"]
    return bool(line["up"]) and line["waiting"] == 0
