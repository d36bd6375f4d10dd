"""What is shown of power cuts: on a disk that keeps what it was told to flush, and on one that lies about it."""

import contextlib
import json
import random
import threading
import time
from typing import Any, Final

from msgspec import Struct

from tests.hardware.machine import Failed
from tests.hardware.shop import PROGRAM, Queue, Shop

LOAD_PER_CUT: Final = 40  # codes; more than are redeemed before the cut comes
PEOPLE: Final = 3  # at once: some write while others wait for their flush
FEWEST: Final = 3  # answers before the power goes
BACK_S: Final = 240  # an emulated machine starts Python ten times more slowly than a real one
PEOPLE_WAIT_S: Final = 90
# What a start says of its own disk: core's words at warning or above, the file system's, and systemd's on the mount.
SAID: Final = r"""
journalctl -b -q --no-pager -o cat -u store-core | grep -E '^(WARNING|ERROR|CRITICAL) ' | sort | uniq -c | sort -rn | head -4
journalctl -b -q --no-pager -o cat -u 'systemd-fsck@*' | grep -iE 'clear|fix|error|corrupt|inconsisten' | head -2
journalctl -b -q --no-pager -o cat -k | grep -E 'EXT4-fs.*(vdb|error|warning)' | grep -vE 'mounted filesystem|recovery complete' | head -2
"""


class PowerCuts:
    """Cuts the power under people who redeem, again and again."""

    def __init__(self, shop: Shop, line_port: int, cuts: int, seed: int) -> None:
        self._shop = shop
        self._line_port = line_port
        self._cuts = cuts
        self._random = random.Random(seed)
        self._seed = seed
        self._told: dict[str, str] = {}  # presentation to what was heard of it before a cut
        self._redone = 0

    def show(self) -> str:
        """Whatever was answered is still answered the same, and whatever was not is answered now."""
        boots = []
        for number in range(1, self._cuts + 1):
            boots.append(self._once(number))
            self._shop.machine.told(f"  power cut {number}: {len(self._told)} answers so far, serving again after {boots[-1]:.0f} s")
        self._judge("last of all", self._told)
        unflushed, lost = self._shop.machine.lost_pieces()
        return (
            f"{self._cuts} cuts (seed {self._seed}), 0 of {len(self._told)} acknowledged redemptions lost: all given again byte for byte, "
            f"after their cut and after the last; {self._redone} unanswered ones answered on retry; "
            f"the disk lost or tore {lost} of {unflushed} unflushed pieces; power to redeeming in {max(boots):.0f} s at most"
        )

    def _once(self, number: int) -> float:
        shop = self._shop
        calls = shop.redeeming(shop.headquarters.vouchers(LOAD_PER_CUT))
        heard = redeem_until_cut(shop, calls, self._random)
        self._told |= heard
        power_s = time.monotonic()
        shop.machine.boot(self._line_port)
        shop.until_it_decides(BACK_S)
        self._judge(f"cut {number}", heard)
        serving_s = time.monotonic() - power_s
        left = [call for call in calls if call[2]["presentation_id"] not in heard][:3]
        for call, reply in zip(left, shop.ask(left, patience_s=BACK_S), strict=True):
            _redeemed(f"cut {number}", reply)
            shop.heard.answers[call[2]["presentation_id"]] = reply["body"]
            self._redone += 1
        return serving_s

    def _judge(self, when: str, heard: dict[str, str]) -> None:
        """Everybody who was answered asks again and is told the same."""
        calls = [self._shop.redeem_call(presentation) for presentation in heard]
        replies = self._shop.ask(calls, patience_s=BACK_S, timeout_s=BACK_S + 120)
        for before, reply in zip(heard.values(), replies, strict=True):
            _redeemed(when, reply)
            if reply["body"] != before:
                raise Failed(f"{when}: told before {before[:160]}, afterwards {reply['body'][:160]}")


def _redeemed(when: str, reply: dict[str, Any]) -> None:
    if reply["status"] != 200:
        raise Failed(f"{when}: core says {reply['status']}: {reply['body'][:120]}")
    if json.loads(reply["body"])["decision"] != "redeemed":
        raise Failed(f"{when}: a good code was answered {reply['body'][:160]}")


def redeem_until_cut(shop: Shop, calls: list[list[Any]], chance: random.Random) -> dict[str, str]:
    """People redeem until the power goes at a moment that nobody expects; the answers that were heard, by presentation.

    Raises:
        Failed: Too few were answered for the cut to mean anything.
    """
    queue: Queue = shop.begin(calls, patience_s=5, pause_s=0.02, people=PEOPLE)
    after = chance.randrange(FEWEST, LOAD_PER_CUT // 2)
    cutter = threading.Timer(PEOPLE_WAIT_S, shop.machine.cut)  # if nobody is answered at all
    cutter.start()
    heard, cutting = dict[str, str](), None
    for presentation, status in queue.told():
        if status == 200:
            heard[presentation] = shop.heard.answers[presentation]
        if len(heard) >= after and cutting is None:  # a moment later, at any point of somebody else's redemption
            cutting = threading.Timer(chance.random() * 0.5, shop.machine.cut)
            cutting.start()
    cutter.cancel()
    if cutting is not None:
        cutting.join()
    queue.close()
    if len(heard) < after:
        raise Failed(f"only {len(heard)} of {len(calls)} were answered before the cut")
    return heard


class Aftermath(Struct):
    """What a start on a disk that has lied looks like."""

    answered: int  # redemptions heard before the cut
    serves: bool
    told: str = ""  # what the box says of its disk; empty: nothing
    again: int = 0  # codes it had redeemed and takes a second time
    known_at_hq: int = 0  # of these
    changed: int = 0  # answers it gives again differently
    books: str = ""  # what headquarters makes of it

    @property
    def wrong(self) -> str:
        """What must not be; empty: nothing."""
        if self.known_at_hq:
            return f"{self.known_at_hq} codes that headquarters knew to be used were redeemed a second time; {self.forgotten}"
        if (self.again or self.changed) and not self.told:
            return f"the damage was not found; {self.forgotten}"
        return "" if self.serves or self.told else "it does not serve, and does not say why"

    @property
    def forgotten(self) -> str:
        """What neither the disk nor headquarters remembers: booked as exposure, beyond what any software can keep."""
        return f"of {self.answered} used codes {self.again} redeemed again, {self.changed} answers given anew; headquarters: {self.books}"

    def __str__(self) -> str:
        if self.wrong:
            return self.wrong
        if not self.told:
            return "not damaged"
        repaired = "repaired from headquarters" if self.serves else "nothing is served"
        return f"damage found at start, {repaired}: {self.told}; {self.forgotten}"


class LyingDisk:
    """A disk that says flushed and is not: of the last two seconds' writes a power cut loses, tears and reorders half.

    No software keeps what such a disk forgets before headquarters has it. What is asked for is that a start finds the damage, takes
    what is missing from headquarters and serves nothing of it: no code that headquarters knew to be used is redeemed again.
    """

    def __init__(self, shop: Shop, line_port: int, cuts: int, seed: int) -> None:
        self._shop = shop
        self._line_port = line_port
        self._cuts = cuts
        self._random = random.Random(seed)

    def show(self) -> str:
        """Every start after a cut either finds nothing wrong because nothing is, or says what is and serves nothing of it."""
        seen: list[str] = []
        self._shop.machine.off()  # if it is on
        self._shop.machine.boot(self._line_port, data="lying")
        for number in range(1, self._cuts + 1):
            before = self._shop.machine.lost_pieces()
            aftermath = self._once()
            pieces, lost = (now - then for now, then in zip(self._shop.machine.lost_pieces(), before, strict=True))
            seen.append(f"cut {number} ({aftermath.answered} answers, {lost} of {pieces} unflushed pieces lost or torn): {aftermath}")
            self._shop.machine.told(f"  {seen[-1]}")
            if aftermath.wrong:
                raise Failed("; ".join(seen))
            if not aftermath.serves:
                break  # it waits for a person now
        return "; ".join(seen)

    def _once(self) -> Aftermath:
        shop = self._shop
        calls = shop.redeeming(shop.headquarters.vouchers(LOAD_PER_CUT))
        shop.until_it_decides(BACK_S)
        heard = redeem_until_cut(shop, calls, self._random)
        try:
            shop.machine.boot(self._line_port, data="lying")
        except Failed as error:
            return Aftermath(len(heard), False, f"the machine stopped before the shop: {error}; {shop.machine.console()}")
        with contextlib.suppress(Failed):  # headquarters is given the time to say what it knows
            shop.machine.until(lambda: shop.view()["line"]["up"] and shop.view()["line"]["waiting"] == 0, BACK_S, "the lanes did not drain")
        try:
            serves = shop.decides()
        except Failed:
            return Aftermath(len(heard), False, self._told())
        known, again = self._known(heard), self._second_tries(heard)
        told, changed = self._told(), self._changed(heard)
        return Aftermath(len(heard), serves, told, len(again), len(known & again), changed, self._books())

    def _known(self, heard: dict[str, str]) -> set[str]:
        """Of the vouchers that were answered, those of which headquarters had heard before the cut."""
        vouchers = {self._shop.heard.vouchers[one] for one in heard}
        return {voucher for voucher in vouchers if self._shop.headquarters.get(f"/api/vouchers/{voucher}")["used"]}

    def _second_tries(self, heard: dict[str, str]) -> set[str]:
        """Used codes are shown again, by somebody else; the vouchers that are redeemed once more."""
        shop = self._shop
        used = [{"voucher_id": shop.heard.vouchers[one], "token": shop.heard.tokens[one]} for one in heard]
        replies = shop.ask(shop.redeeming(used), patience_s=BACK_S, timeout_s=BACK_S + 120)
        both = zip(used, replies, strict=True)
        return {one["voucher_id"] for one, reply in both if reply["status"] == 200 and _decision(reply) == "redeemed"}

    def _changed(self, heard: dict[str, str]) -> int:
        replies = self._shop.ask([self._shop.redeem_call(one) for one in heard], patience_s=30, timeout_s=240)
        both = zip(heard.values(), replies, strict=True)
        return sum(reply["status"] == 200 and reply["body"] != before and not _put_off(reply) for before, reply in both)

    def _books(self) -> str:
        books = self._shop.headquarters.get("/api/books")
        return ", ".join(f"{books[key]} {key}" for key in ("unexplained", "quarantined", "rejected"))

    def _told(self) -> str:
        """What the box says of its disk since it started, and what its doctor does."""
        said = [" ".join(line.split()) for line in self._shop.machine.sh(SAID, check=False).splitlines() if line.strip()]
        with contextlib.suppress(ValueError):
            findings = json.loads(self._shop.machine.sh(f"{PROGRAM} doctor --json", check=False, timeout_s=180))["checks"]
            ill = [one for one in findings if one["id"].startswith(("ledger", "admission")) and one["state"] in ("warn", "fail")]
            said += [f"doctor {one['id']}: {one['what']['en']}" for one in ill]
        with contextlib.suppress(Failed):
            admission = self._shop.view().get("admission", {})
            said += [f"this start is {admission['state']}: {admission['doubt']}"] if not admission.get("admitted", True) else []
        return " | ".join(said)[:700]


def _put_off(reply: dict[str, Any]) -> bool:
    """Refused because this start may not decide yet: nothing is said about the code."""
    return bool(json.loads(reply["body"]).get("reason") == "not_admitted")


def _decision(reply: dict[str, Any]) -> str:
    return str(json.loads(reply["body"])["decision"])
