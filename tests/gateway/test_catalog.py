"""Documents: believed under HQ's seal, for this box, and newer than the one in force."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.catalog import Catalog
from gateway.errors import MalformedFrame
from gateway.signed import DOCUMENT_TAG, MANIFEST_TAG, Document, Order, Staff, TokenKey, Voucher, digest, public_hex, seal
from tests.conftest import HQ_KEY, STRANGER_KEY, TOKEN_KEY
from tests.gateway.rules.offers import BOGO, definition

VOUCHER = Voucher("00000000000002a", 1, "咖啡", "Coffee", 0, 2_000_000_000)
ORDER = Order("00000000000002b", "A001", "陳○明", 1, ["咖啡豆"])


class OfBefore(msgspec.Struct):
    """A document as releases without campaigns wrote it."""

    gateway: str
    name: str
    version: int
    issued_us: int
    vouchers: list[Voucher]


@pytest.fixture
def catalog() -> Catalog:
    return Catalog("box-7", [HQ_KEY.public_key()])


def sealed(document: Document, key: Ed25519PrivateKey = HQ_KEY, tag: bytes = DOCUMENT_TAG) -> tuple[bytes, str]:
    data = seal(tag, document, key)
    return data, digest(data)


def test_each_document_fills_its_own_list(catalog: Catalog) -> None:
    token_key = TokenKey(1, 1, public_hex(TOKEN_KEY.public_key()))
    person = Staff("s1", "小美", "$argon2id$", ["cashier"])
    for document in (
        Document("box-7", "keys", 1, 0, keys=[token_key]),
        Document("box-7", "vouchers", 2, 0, vouchers=[VOUCHER]),
        Document("box-7", "orders", 3, 0, orders=[ORDER]),
        Document("box-7", "staff", 4, 0, staff=[person]),
    ):
        catalog.apply(catalog.verify(*sealed(document)))
    assert {key_id: held.issuer for key_id, held in catalog.keys.own.items()} == {1: 1}
    assert catalog.vouchers == {VOUCHER.voucher_id: VOUCHER}
    assert catalog.orders == {ORDER.order_id: ORDER}
    assert catalog.staff == {"s1": person}
    assert catalog.versions == {"keys": 1, "vouchers": 2, "orders": 3, "staff": 4}


def test_a_campaign_of_a_newer_release_stops_no_other(catalog: Catalog) -> None:
    definitions = [msgspec.Raw(definition({"kind": "lucky_wheel"}, 8)), msgspec.Raw(definition(BOGO, 9))]
    catalog.apply(catalog.verify(*sealed(Document("box-7", "campaigns", 1, 0, campaigns=definitions))))
    assert [one.campaign for one in catalog.campaigns.good] == [9]
    assert [one.campaign for one in catalog.campaigns.problems] == [8]
    assert catalog.versions == {"campaigns": 1}


def test_a_document_of_a_release_without_campaigns_is_read(catalog: Catalog) -> None:
    data = seal(DOCUMENT_TAG, OfBefore("box-7", "vouchers", 3, 0, [VOUCHER]), HQ_KEY)
    catalog.apply(catalog.verify(data, digest(data)))
    assert (catalog.vouchers, catalog.campaigns.good) == ({VOUCHER.voucher_id: VOUCHER}, ())


def test_a_document_replaces_its_list_whole(catalog: Catalog) -> None:
    catalog.apply(Document("box-7", "vouchers", 1, 0, vouchers=[VOUCHER]))
    catalog.apply(Document("box-7", "vouchers", 2, 0))
    assert catalog.vouchers == {}


def test_lists_a_document_has_no_name_for_are_passed_over(catalog: Catalog) -> None:
    catalog.apply(Document("box-7", "orders", 1, 0, orders=[ORDER], vouchers=[VOUCHER]))
    assert catalog.vouchers == {}


@pytest.mark.parametrize(
    ("document", "key", "tag"),
    [
        (Document("box-7", "vouchers", 1, 0), STRANGER_KEY, DOCUMENT_TAG),
        (Document("box-8", "vouchers", 1, 0), HQ_KEY, DOCUMENT_TAG),
        (Document("box-7", "weather", 1, 0), HQ_KEY, DOCUMENT_TAG),
        (Document("box-7", "vouchers", 1, 0), HQ_KEY, MANIFEST_TAG),
        (Document("box-7", "keys", 1, 0, keys=[TokenKey(1, 1, "00")]), HQ_KEY, DOCUMENT_TAG),
    ],
    ids=["forged", "of another box", "of an unknown name", "sealed as something else", "with a broken key"],
)
def test_what_is_not_ours_is_not_believed(catalog: Catalog, document: Document, key: Ed25519PrivateKey, tag: bytes) -> None:
    with pytest.raises(MalformedFrame):
        catalog.verify(*sealed(document, key, tag))


def test_bytes_other_than_those_of_the_manifest_are_not_believed(catalog: Catalog) -> None:
    data, _ = sealed(Document("box-7", "vouchers", 1, 0))
    with pytest.raises(MalformedFrame):
        catalog.verify(data, digest(data + b"x"))


def test_only_a_higher_version_is_newer(catalog: Catalog) -> None:
    catalog.apply(Document("box-7", "vouchers", 5, 0))
    newer = {version: catalog.is_newer(Document("box-7", "vouchers", version, 0)) for version in (4, 5, 6)}
    assert newer == {4: False, 5: False, 6: True}
    assert catalog.is_newer(Document("box-7", "orders", 1, 0))
