"""What a hostile or clumsy client can do: nothing that anybody else notices."""

import asyncio
import socket
import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kiosk import doors, guard
from tests.gateway.kiosk.conftest import Shop, open_shop
from tests.gateway.kiosk.desk_stand import COFFEE, DeskStand


async def say(shop: Shop, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", shop.port)
    writer.write(text)
    await writer.drain()
    return reader, writer


async def answered(shop: Shop, text: bytes, within_s: float = 5) -> bytes:
    reader, writer = await say(shop, text)
    try:
        return await asyncio.wait_for(reader.read(), within_s)
    finally:
        writer.close()


def post(headers: str, body: bytes = b"") -> bytes:
    return f"POST /v1/redeem HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n".encode() + body


async def test_half_sent_requests_hold_nobody_up_and_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors.Door, "request_s", 0.5)
    async with open_shop(DeskStand()) as shop:
        halves = [await say(shop, text) for text in [b"", b"GET / HT", b"POST /v1/redeem HTTP/1.1\r\nHost: localh"] * 20]
        begun = time.monotonic()
        assert (await shop.redeem(COFFEE)).json()["decision"] == "redeemed"
        assert time.monotonic() - begun < 1
        for reader, writer in halves:
            with pytest.raises(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 3) == b""
                raise ConnectionResetError  # closed without a reset is cut, too
            writer.close()


async def test_a_second_request_that_never_ends_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors.Door, "request_s", 0.4)
    async with open_shop(DeskStand()) as shop:
        reader, writer = await say(shop, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"serving")
        writer.write(b"GET /heal")
        begun = time.monotonic()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 3)
            raise ConnectionResetError
        assert time.monotonic() - begun < 2
        writer.close()


async def test_a_slow_answer_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors.Door, "request_s", 0.2)
    desk = DeskStand()
    desk.hold = asyncio.Event()
    async with open_shop(desk) as shop:
        asyncio.get_running_loop().call_later(0.7, desk.hold.set)
        assert (await shop.redeem(COFFEE)).json()["decision"] == "redeemed"


async def test_a_body_that_never_ends_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.3)
    answer = await answered(shop, post("Content-Length: 500\r\n", b'{"station"'))
    assert answer.startswith(b"HTTP/1.1 408") and "逾時".encode() in answer


@pytest.mark.parametrize(
    "text",
    [
        post("Content-Length: 65537\r\n"),
        post("Content-Length: 99999999999999999999\r\n"),
        post("Transfer-Encoding: chunked\r\n", b"fff0\r\n" + b" " * 0xFFF0 + b"\r\nffff\r\n" + b" " * 0xFFFF + b"\r\n0\r\n\r\n"),
    ],
)
async def test_an_oversized_body_is_refused_before_it_is_parsed(shop: Shop, text: bytes) -> None:
    assert (await answered(shop, text)).startswith(b"HTTP/1.1 413")
    assert shop.desk.presented == []


async def test_a_head_that_is_too_long_is_refused(shop: Shop) -> None:
    text = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000
    assert (await answered(shop, text)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[", "localhost@evil.example"])
async def test_a_name_that_is_not_ours_is_refused(shop: Shop, host: str) -> None:
    text = f"GET /v1/store HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert (await answered(shop, text)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "[::1]:8080", "192.168.1.20:8080"])
async def test_our_names_and_addresses_are_served(shop: Shop, host: str) -> None:
    text = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert (await answered(shop, text)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"origin": "http://localhost:1"}]
)
async def test_another_sites_page_cannot_post(shop: Shop, headers: dict[str, str]) -> None:
    body = {"station": "counter", "code": COFFEE, "presentation_id": "a" * 32}
    answer = await shop.client.post("/v1/redeem", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "foreign_origin")
    assert shop.desk.presented == []


async def test_our_own_page_can_post(shop: Shop) -> None:
    body = {"station": "counter", "code": COFFEE, "presentation_id": "a" * 32}
    headers = {"origin": shop.url, "sec-fetch-site": "same-origin"}
    assert (await shop.client.post("/v1/redeem", json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/kiosk/counter", "/staff", "/v1/store", "/static/kiosk.js", "/nothing", "/v1/stations/none"])
async def test_every_answer_carries_the_shield(shop: Shop, path: str) -> None:
    headers = (await shop.client.get(path)).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


async def test_connections_that_are_answered_are_capped_and_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "MAX_CONNECTIONS", 8)
    async with open_shop(DeskStand()) as shop:
        await shop.client.aclose()
        stream = b"GET /v1/store/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        open_ones = [await say(shop, stream) for _ in range(8)]
        for reader, _ in open_ones:
            await asyncio.wait_for(reader.readuntil(b"data:"), 5)
        assert (await answered(shop, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 503")
        for _, writer in open_ones:
            writer.close()
        await asyncio.sleep(0.1)
        text = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert (await answered(shop, text)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("half", [b"", b"POST /v1/redeem HTTP/1.1\r\nHost: localh", post("Content-Length: 500\r\n", b'{"station"')])
async def test_a_thousand_half_sent_requests_keep_nobody_out(half: bytes) -> None:
    async with open_shop(DeskStand()) as shop:
        halves = []
        for _ in range(1_000):
            halves.append(await say(shop, half))
        begun_s = time.monotonic()
        assert (await shop.redeem(COFFEE)).json()["decision"] == "redeemed"
        assert time.monotonic() - begun_s < 1
        for _, writer in halves:
            writer.close()


@pytest.mark.slow
async def test_a_reader_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(doors.Door, "stall_s", 0.3)
    desk = DeskStand()
    desk.units = desk.units * 2000
    async with open_shop(desk) as shop:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", shop.port))
            deaf.sendall(b"GET /v1/store/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for _ in range(40):
                desk.tell()
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            deaf.settimeout(3)
            while deaf.recv(1 << 20):
                pass  # what the kernel still held; then the end, and not a wait for more
        assert (await shop.redeem(COFFEE)).json()["decision"] == "redeemed"
    assert "Traceback" not in caplog.text


async def test_files_outside_static_cannot_be_had(shop: Shop) -> None:
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/words.py", "/static//etc/passwd"):
        text = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        assert b"404" in (await answered(shop, text)).split(b"\r\n")[0], path


async def test_an_answer_on_an_open_connection_does_not_wait_for_the_last_ones_confirmation(shop: Shop) -> None:
    """Nagle's algorithm against delayed acknowledgements costs 40 ms an answer, on every connection that is kept open."""
    took_s = []
    for _ in range(10):
        begun_s = time.monotonic()
        assert (await shop.client.get("/healthz")).status_code == 200
        took_s.append(time.monotonic() - begun_s)
    assert sorted(took_s)[2] < 0.03


@given(st.binary(max_size=80) | st.text('0123456789 ._-\\u"０Ａé', max_size=60).map(str.encode))
def test_the_quick_look_for_cards_misses_nothing_that_the_thorough_one_finds(body: bytes) -> None:
    assert guard._may_hold_card(body) is (guard.MAY_HOLD_CARD.search(body) is not None)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("parts", [[], [b""], [b"{}"], [b"one", b"two"]])
def test_the_head_goes_out_with_what_follows_it_and_no_byte_is_another(method: str, parts: list[bytes]) -> None:
    written = []
    for connection in (h11.Connection(h11.SERVER), doors.Together(h11.SERVER)):
        connection.receive_data(f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while type(connection.next_event()) is not h11.EndOfMessage:
            pass
        sent = [connection.send(h11.Response(status_code=200, headers=[("content-length", str(len(b"".join(parts))))]))]
        sent += [connection.send(h11.Data(data=part if method == "GET" else b"")) for part in parts]
        sent.append(connection.send(h11.EndOfMessage()))
        written.append([one for one in sent if one])
    assert b"".join(written[1]) == b"".join(written[0])
    assert written[1][0].startswith(b"HTTP/1.1 200")
    assert len(written[1]) == max(1, len(written[0]) - 1)
