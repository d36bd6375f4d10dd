"""Scenarios of clearing: a day of redemptions closed, issuer by issuer."""

import csv
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.commands import app
from gateway.signed import public_hex
from gateway.token import HOME_ISSUER, Claims, TokenKind, sign
from tests.conftest import fixed_key
from tests.store.running import RunningStore
from virtual_store.plan import STORE_NUMBER
from virtual_store.till import Till, manager_of

pytestmark = [pytest.mark.slow]

PARTNER, PARTNER_SECRET = 9, fixed_key(31)


def command(store: RunningStore, *words: str) -> Result:
    """Headquarters' command line."""
    return CliRunner().invoke(app, ["hq", *words, "--data", str(store.starter.plan.folder / "hq")])


def of_partner(number: int) -> str:
    """A voucher another issuer has signed for this shop."""
    claims = Claims(
        kind=TokenKind.VOUCHER, key_id=9, issuer=PARTNER, identifier=number, campaign=3, store=STORE_NUMBER, not_after_s=2_000_000_000
    )
    return sign(claims, PARTNER_SECRET)


@pytest.mark.scenario("R38")
def test_a_day_closed_gives_each_issuer_a_file_that_sums_to_the_ledger(whole_store: RunningStore, tmp_path: Path) -> None:
    body = {"format": "token", "issuer": PARTNER, "key_id": "9", "public": public_hex(PARTNER_SECRET.public_key()), "name_zh": "福利社"}
    before = whole_store.view()["documents"].get("keys", 0)
    whole_store.hq_post("/api/issuers/keys", body)
    whole_store.until(lambda: whole_store.view()["documents"].get("keys", 0) > before, 15, "the shop was not told of the issuer")
    (tmp_path / "v.csv").write_text("store,title_zh,value_minor,count\ntpe-001,員工福利券,120,4\n", encoding="utf-8")
    assert command(whole_store, "issue", str(tmp_path / "v.csv"), "--codes", str(tmp_path / "codes.csv")).exit_code == 0
    ours = [row["token"] for row in csv.DictReader((tmp_path / "codes.csv").read_text(encoding="utf-8").splitlines())]

    till = Till(whole_store.starter.plan.kiosk_url, "counter", tmp_path / "till.key")
    till.pair(lambda digits: None, manager_of(whole_store.starter.plan.folder, till.url))
    first = till.present("redeem", ours[0]).answer
    for code in (*ours[1:], ours[2], of_partner(1), of_partner(2), of_partner(secrets.randbits(59))):
        till.present("redeem", code)
    assert till.settle("reverse", redemption_id=first["redemption_id"]).answer["decision"] == "reversed"
    whole_store.drained()

    used, back = whole_store.rows("VoucherRedeemed"), whole_store.rows("RedemptionReversed")
    ledger = Counter({issuer: sum(row["units"] for row in used if row["issuer"] == issuer) for issuer in (HOME_ISSUER, PARTNER)})
    ledger[HOME_ISSUER] -= sum(row["units"] for row in back)
    day = whole_store.hq_get("/api/stores/tpe-001/counts")["day"]
    assert ledger == {HOME_ISSUER: 3, PARTNER: 3}
    for issuer, face_minor, unvalued in ((HOME_ISSUER, 360, 0), (PARTNER, 0, 3)):
        file = tmp_path / f"{issuer}.csv"
        done = command(whole_store, "settle", "--day", day, "--issuer", str(issuer), "--out", str(file))
        assert done.exit_code == 3 and "day_not_over" in done.stdout, done.stderr  # the day goes on: the file says so
        (line,) = owed(file)
        assert (line["store"], int(line["net_uses"]), int(line["face_minor"])) == ("tpe-001", ledger[issuer], face_minor)
        assert int(line["unvalued_uses"]) == unvalued
        checked = command(whole_store, "settle", "--verify", str(file))
        assert checked.exit_code == 0 and f"net {ledger[issuer]} uses" in checked.stdout
        file.write_text(file.read_text(encoding="utf-8").replace(f",{ledger[issuer]},", ",9,", 1), encoding="utf-8")
        assert command(whole_store, "settle", "--verify", str(file)).exit_code == 1
    (box,) = whole_store.hq_get(f"/api/settlement?day={day}")["boxes"]
    assert (box["waiting"], box["provisional"]) == (0, "day_not_over")


def owed(file: Path) -> list[dict[str, Any]]:
    """The lines about what is owed."""
    lines = [line[1:] for line in csv.reader(file.read_text(encoding="utf-8").splitlines()) if line[0] == "owed"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
