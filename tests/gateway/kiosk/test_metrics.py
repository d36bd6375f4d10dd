"""What Prometheus reads from core: read here with Prometheus' own parser."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from gateway.clock import SystemClock
from gateway.config import GatewayConfig
from gateway.core.desk import Desk
from gateway.events import CodePresented
from gateway.kiosk.app import make_app
from gateway.meters import CONTENT_TYPE, Histogram, counter, gauge, histogram
from tests.conftest import HQ_KEY

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def series(text: str) -> Series:
    """Every sample, as Prometheus would store it."""
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in parse(text) for one in family.samples}


async def ask(desk: Desk, client: str = "127.0.0.1", **headers: str) -> httpx.Response:
    """GET /metrics from an address."""
    transport = httpx.ASGITransport(make_app(desk), client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        return await http.get("/metrics", headers=headers)


@contextlib.asynccontextmanager
async def serving(config: GatewayConfig) -> AsyncIterator[Desk]:
    desk = Desk(config, SystemClock(), [HQ_KEY.public_key()], "test", secret=b"marks")
    running = asyncio.ensure_future(desk.run())
    try:
        yield desk
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def present(desk: Desk, text: str) -> None:
    await desk.present(CodePresented("pos@counter", secrets.token_hex(16), "]X0", text.encode()), station="counter")


async def test_the_numbers_are_those_of_the_ledger(shop_config: GatewayConfig, ledger_path: Path) -> None:
    async with serving(shop_config) as desk:
        for text in ("rubbish", "more rubbish", "4111111111111111"):
            await present(desk, text)
        answer = await ask(desk)
        assert answer.headers["content-type"] == CONTENT_TYPE
        found = series(answer.text)
        refused = {labels[0][1]: value for (name, labels), value in found.items() if name == "store_refusals_total"}
        assert sum(refused.values()) == desk.store_view().counts["refusals"] >= 2
        assert found["store_rows_last", (("lane", "0"),)] == desk.store_view().lanes[0].last >= 3  # the epoch's own row is the first
        assert found["store_rows_waiting", (("lane", "0"),)] == found["store_rows_last", (("lane", "0"),)]
        assert found["store_line_up", ()] == 0
        assert found["store_epoch", ()] == 1
        assert found["store_time_trust", ()] == 1
        assert found["store_unit_connected", (("unit", "locker@wall"),)] == 0
        assert found["store_redemptions_total", ()] == 0
        commits = found["store_commit_seconds_count", ()]
        assert 1 <= commits == found["store_commit_seconds_bucket", (("le", "+Inf"),)]
        assert found["store_commit_seconds_sum", ()] > 0


async def test_refusals_are_counted_over_a_restart(shop_config: GatewayConfig, ledger_path: Path) -> None:
    async with serving(shop_config) as desk:
        await present(desk, "rubbish")
        before = desk.meters().refusals
    async with serving(shop_config) as desk:
        assert desk.meters().refusals == before != {}
        assert series((await ask(desk)).text)["store_epoch", ()] == 2


async def test_other_machines_are_told_there_is_no_such_page(shop_config: GatewayConfig, ledger_path: Path) -> None:
    async with serving(shop_config) as desk:
        assert (await ask(desk)).status_code == 200
        assert (await ask(desk, "::1")).status_code == 200
        for stranger in (await ask(desk, "192.168.1.9"), await ask(desk, **{"X-Forwarded-For": "192.168.1.9"})):
            assert stranger.status_code == 404
            assert "store_" not in stranger.text


async def test_no_label_holds_what_was_presented(shop_config: GatewayConfig, ledger_path: Path) -> None:
    async with serving(shop_config) as desk:
        for secret in ("4111111111111111", "member-0912345678", 'x"} 1\nforged_total 9'):
            await present(desk, secret)
        text = (await ask(desk)).text
        assert "4111" not in text and "0912" not in text and "forged" not in text


# ---------------------------------------------------------------- the text format


@given(st.text(), st.floats(allow_nan=False), st.text(max_size=60))
def test_any_label_value_comes_back_as_it_was(value: str, number: float, meaning: str) -> None:
    text = gauge("a_b", meaning.replace("\r", ""), [({"x": value, "y": "1"}, number)])
    if not set(value) & set("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"):  # at these the Python parser, not Prometheus, ends a line
        assert series(text) == {("a_b", (("x", value), ("y", "1"))): number}


@given(st.lists(st.floats(0, 10)))
def test_a_histogram_adds_up(observed: list[float]) -> None:
    of = Histogram()
    for one in observed:
        of.observe(one)
    found = series(histogram("t_seconds", "how long", of))
    for bound in of.bounds:
        assert found["t_seconds_bucket", (("le", repr(bound) if bound % 1 else str(int(bound))),)] == sum(one <= bound for one in observed)
    assert found["t_seconds_bucket", (("le", "+Inf"),)] == found["t_seconds_count", ()] == of.count == len(observed)


def test_a_family_without_samples_is_still_explained() -> None:
    (family,) = parse(counter("nothing_total", "never yet", []))
    assert (family.name, family.type, family.documentation, family.samples) == ("nothing", "counter", "never yet", [])
