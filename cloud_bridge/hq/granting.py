"""From a shopper's phone that has a voucher's link and a shop's request to a grant's code (DESIGN section 3, rules 2 to 4).

Who has the secret of the link may ask; which box and which start it is for says the request, which that box has signed. A request is
good for `FRESH_S` by headquarters' time, or, from a box whose clock cannot be believed, until a later start of it is known: an old
one could only have headquarters press openings for a start that is over. The grant names the start unless the box itself
has said, since headquarters runs, that this very start is admitted, and nothing contradicts it.
"""

from functools import partial
from typing import Any, Final

import segno

from cloud_bridge.hq import assigned_api, assignments, issuers, registry
from cloud_bridge.hq.assignments import AssignedRow
from cloud_bridge.hq.claims import Known, Shown
from cloud_bridge.hq.office import Office
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.store import Connection
from gateway import asking, holder, signed, token
from gateway import grant as grants
from gateway.asking import Asking
from gateway.errors import MalformedFrame
from gateway.rules.reasons import NOTHING, REASONS, Reason, Text
from gateway.token import BadSignature, UnknownKey, VoucherClass

FRESH_S: Final = 900  # a phone is read at once; the rest is what a box's clock may be wrong by without knowing
NO_HASH: Final = bytes(32)  # compared with when there is no such voucher, so that it takes as long


def _words(zh: str, en: str, next_zh: str, next_en: str) -> Reason:
    return Reason(Text(zh, en), Text(next_zh, next_en))


_SCAN: Final = ("請再掃描門市畫面上的 QR 碼", "Scan the QR code on the shop's screen once more")
WORDS: Final[dict[str, Reason]] = {
    "no_such_link": _words("查無此票券連結", "There is no such voucher link", "請開啟收到的完整連結", "Open the whole link you were sent"),
    "too_often": _words("操作太頻繁", "Too many tries", "請稍候一分鐘再試", "Please wait a minute and try again"),
    "no_request": _words("這不是門市的 QR 碼", "This is not a shop's QR code", *_SCAN),
    "no_shop": _words("無法確認此門市", "This shop cannot be confirmed", "請洽店員", "Please ask our staff"),
    "request_old": _words(
        "門市的 QR 碼已過時", "The shop's QR code is too old", "請在門市再出示一次票券", "Show the voucher at the shop again"
    ),
    "other_voucher": _words(
        "門市的 QR 碼是給另一張票券的", "The shop's QR code is for another voucher", "請開啟該票券", "Please open that voucher"
    ),
    "not_by_phone": _words(
        "此券不能以手機授權碼使用",
        "This voucher cannot be used with a pass from the phone",
        "請待門市連線後再試",
        "Try again when the shop is online",
    ),
}
STATUS: Final = {"no_such_link": 404, "too_often": 429, "no_request": 400, "no_shop": 403}


class NotGranted(Exception):
    """There is no grant. `reason` is a key of `WORDS` or `REASONS`; `shop`: who holds the voucher instead."""

    def __init__(self, reason: str, shop: Text = NOTHING) -> None:
        super().__init__(reason)
        self.reason, self.shop = reason, shop
        self.status = STATUS.get(reason, 409)

    def told(self) -> dict[str, Any]:
        """What the phone is told: `{reason, message, next_step, shop}`, each text in both languages."""
        words = WORDS.get(self.reason) or REASONS[self.reason]
        return {"reason": self.reason, "message": both(words.text), "next_step": both(words.next_step), "shop": both(self.shop)}


class Granting:
    """Headquarters as shoppers' phones see it."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def holder_of(self, voucher_id: str, secret: str) -> AssignedRow:
        """The voucher, for who has its link.

        Raises:
            NotGranted: There is none, or the secret is another: they look alike.
        """
        row = await self._office.store.read(partial(assignments.find, voucher_id=voucher_id))
        fits = holder.holds(voucher_id, secret, bytes.fromhex(row.holder_sha256) if row is not None else NO_HASH)
        if row is None or not fits:
            raise NotGranted("no_such_link")
        return row

    async def look(self, row: AssignedRow) -> dict[str, Any]:
        """A voucher for its holder: title, state, its own QR code, and the shops that hold it."""
        told = assigned_api.describe(row)
        ended = row.stand.ended or ("expired" if self._office.now_us() // 1_000_000 > row.not_after_s else "")
        shops = await self._office.store.read(lambda db: [name_of(registry.box_of(db, kept.gateway)) for kept in row.stand.kept])
        spent = sum(kept.total_spent for kept in row.stand.kept)
        return {
            "title": {"zh": row.title_zh, "en": row.title_en}, "state": told["state"], "not_after_s": row.not_after_s,
            "left": row.stand.left + sum(kept.units for kept in row.stand.kept) - spent,
            "qr": qr(row.token), "shops": [both(shop) for shop in shops], "message": both(REASONS[ended].text) if ended else None,
        }  # fmt: skip

    def asked(self, text: str) -> tuple[Asking, Known]:
        """Who asks, by its own signature.

        Raises:
            NotGranted: Not a request, not of a box of this chain, or too old.
        """
        ingest = self._office.ingest
        known: Known | None = None

        def key_of(gateway: str) -> Any:
            nonlocal known
            known = ingest.known(gateway)
            return known.key if known is not None else None

        try:
            found = asking.verify(text, key_of)
        except (UnknownKey, BadSignature) as error:
            raise NotGranted("no_shop") from error
        except MalformedFrame as error:
            raise NotGranted("no_request") from error
        if known is None or not found.epoch:
            raise NotGranted("no_request")
        if found.asked_s and abs(self._office.now_us() // 1_000_000 - found.asked_s) > FRESH_S:
            raise NotGranted("request_old")
        return found, known

    async def grant(self, row: AssignedRow, text: str) -> dict[str, Any]:
        """A grant's code, for the box that asks.

        Raises:
            NotGranted: As `asked`, or the rules do not give the voucher to this box now.
        """
        found, known = self.asked(text)
        if found.voucher_id not in ("", row.voucher_id):
            raise NotGranted("other_voucher")
        if row.voucher_class != VoucherClass.GRANTED:
            raise NotGranted("not_by_phone")
        await self._office.store.read(partial(_refuse_unfit, row=known.row, epoch=found.epoch))
        proven = self._office.ingest.openings.proven(known.row.gateway, found.epoch)
        shown = await self._office.ingest.claims.show(known.row, row.voucher_id, found.epoch, proven=proven)
        if shown.grant is None:
            raise _not_given(shown)
        code = await self._office.store.read(partial(self._code, row=row, given=shown.grant))
        return {"code": code, "qr": qr(code), "not_after_s": shown.grant.not_after_s, "shop": both(name_of(known.row))}

    def _code(self, db: Connection, row: AssignedRow, given: signed.Grant) -> str:
        keys = self._office.press.own_keys
        epoch = grants.epoch_digest(given.epoch) if given.epoch is not None else 0
        key_id, claims = issuers.signing_key_id(db, keys), token.unpack(row.token)[0]
        said = grants.Grant(
            key_id=key_id, issuer=claims.issuer, identifier=claims.identifier, assignment=given.number,
            box=grants.box_digest(given.gateway), epoch=epoch, left=given.units,
            issued_s=given.issued_s, not_after_s=given.not_after_s,
        )  # fmt: skip
        return grants.sign(said, keys[key_id])


def _refuse_unfit(db: Connection, row: BoxRow, epoch: str) -> None:
    later = "SELECT 1 FROM epochs WHERE gateway = ? AND parent = ? LIMIT 1"
    if db.execute(later, (row.gateway, epoch)).fetchone() is not None:
        raise NotGranted("request_old")  # that start is over
    box = grants.box_digest(row.gateway)
    if any(other.gateway != row.gateway and grants.box_digest(other.gateway) == box for other in registry.boxes(db)):
        raise NotGranted("no_shop")  # its digest would let another box honour the grant, too


def _not_given(shown: Shown) -> NotGranted:
    reason = shown.reason if shown.reason in REASONS else "needs_online"
    return NotGranted(reason, name_of(shown.holder) if shown.holder is not None else NOTHING)


def name_of(row: BoxRow) -> Text:
    """A shop as shoppers know it."""
    return Text(row.name_zh or row.store, row.name_en or row.name_zh or row.store)


def both(text: Text) -> dict[str, str]:
    """A text as JSON."""
    return {"zh": text.zh, "en": text.en}


def qr(code: str) -> str:
    """A picture of a code, as the address of an image that needs no request: at level M, black on white, the quiet zone with it."""
    return str(segno.make_qr(code, error="m", boost_error=False).svg_data_uri(scale=4, border=4, light="#fff"))
