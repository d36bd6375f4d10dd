"""The catalog: what HQ told this store, verified here and nowhere else.

A document is believed when HQ's key signed it, it is for this box, and it is newer than the one in force. The bridge that
brought it is not trusted with any of that. Applying is one assignment in memory after one transaction on disk (core's).
Of the campaigns each is read for itself: one that this release does not know is reported, the others are served.
"""

import logging

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.anywhere import Known, known
from gateway.codes import CodeKind, Recognised, short_identifier
from gateway.errors import MalformedFrame
from gateway.roll import Roll
from gateway.rules.definitions import Campaigns, read_campaigns
from gateway.rules.points import PointsRate, read_rates
from gateway.signed import (
    ANYWHERE_NAME,
    DOCUMENT_NAMES,
    DOCUMENT_TAG,
    MEMBER_NAMES,
    RARE_NAMES,
    CampaignLimit,
    Document,
    Order,
    Staff,
    Voucher,
    digest,
    unseal,
)
from gateway.token import HOME_ISSUER, voucher_ref
from gateway.verifiers import Keyring, opaque

log = logging.getLogger(__name__)


class Catalog:
    """The documents in force.

    Args:
        gateway: This box; documents for another are refused.
        hq: HQ's public keys, from enrolment.
    """

    def __init__(self, gateway: str, hq: list[Ed25519PublicKey]) -> None:
        self._gateway = gateway
        self._hq = hq
        self.versions: dict[str, int] = {}
        self.keys = Keyring()
        self.vouchers: dict[str, Voucher] = {}
        self._issuers = frozenset({HOME_ISSUER})  # of the vouchers listed
        self.codes: dict[str, str] = {}  # digest of a code without signature to the voucher it stands for
        self.limits: dict[int, CampaignLimit] = {}
        self.orders: dict[str, Order] = {}
        self.staff: dict[str, Staff] = {}
        self.campaigns = Campaigns()
        self.rates: tuple[PointsRate, ...] = ()  # of points
        self.roll = Roll()
        self.anywhere = Known()
        self.revoked_devices: frozenset[str] = frozenset()
        self.retired = False  # HQ has revoked this box

    def verify(self, sealed: bytes, sha256: str) -> Document:
        """Judge a document's bytes.

        Raises:
            MalformedFrame: Not the bytes that were named, not signed by HQ, for another box, or of a name nobody knows.
        """
        if digest(sealed) != sha256:
            raise MalformedFrame("a document whose bytes are not those of its manifest", "The bridge will fetch it again")
        document = unseal(DOCUMENT_TAG, sealed, self._hq, Document)
        if document.gateway != self._gateway or document.name not in (*DOCUMENT_NAMES, *RARE_NAMES):
            raise MalformedFrame(f"a document for {document.gateway}, named {document.name}", "Headquarters must address it to this box")
        Keyring(document)  # every key is one
        return document

    def is_newer(self, document: Document) -> bool:
        """Whether it would change anything."""
        return document.version > self.versions.get(document.name, 0)

    def resolve(self, found: Recognised) -> list[str]:
        """The vouchers and orders a code without signature may stand for; of several issuers each may have one of its number."""
        listed = opaque.find(found.typed, self.codes) or opaque.find(found.typed, self.anywhere.digests)
        if listed is not None:
            return [listed]
        if found.kind is not CodeKind.SHORT:
            return []
        identifier = short_identifier(found.text)
        references = (voucher_ref(issuer, identifier) for issuer in self._issuers)
        return [reference for reference in references if reference in self.vouchers or reference in self.orders]

    def apply(self, document: Document) -> None:
        """Put a verified document in force."""
        self.versions[document.name] = document.version
        if document.name == "keys":
            self.keys = Keyring(document)
        elif document.name == "vouchers":
            self.vouchers = {voucher.voucher_id: voucher for voucher in document.vouchers}
            self._issuers = frozenset({HOME_ISSUER} | {voucher.issuer for voucher in document.vouchers})
            self.codes = opaque.index(document.vouchers)
            self.limits = {limit.campaign: limit for limit in document.limits}
        elif document.name == "orders":
            self.orders = {order.order_id: order for order in document.orders}
        elif document.name == "staff":
            self.staff = {person.staff_ref: person for person in document.staff}
        elif document.name in MEMBER_NAMES:
            self.roll.apply(document)
        elif document.name == "campaigns":
            self._apply_campaigns(document)
        elif document.name == ANYWHERE_NAME:
            self.anywhere = known(document.anywhere, document.issued_us)
        elif document.name == "devices":
            self.revoked_devices = frozenset(document.devices)
            self.retired = document.retired

    def _apply_campaigns(self, document: Document) -> None:
        """Each definition is read for itself: one that this release does not know is reported, the others are served."""
        self.campaigns = read_campaigns(bytes(one) for one in document.campaigns)
        for error in self.campaigns.problems:
            log.warning("campaign %s is not served: %s. %s", error.campaign, error.problem, error.hint)
        self.rates, unread = read_rates(bytes(one) for one in document.rates)
        for problem in unread:
            log.warning("a rate of points is not in force: %s. %s", problem.problem, problem.hint)
