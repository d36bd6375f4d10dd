"""What pages load."""

from pathlib import Path

from gateway.config import GatewayConfig
from tests.conftest import VirtualClock

from .real_shop import open_doors


async def test_the_decoder_comes_packed_and_is_whole(shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock) -> None:
    async with open_doors(shop_config, clock) as doors:
        http = doors.nobody().http
        answer = await http.get("/static/vendor/zxing/zxing_reader.wasm")
        kind = answer.headers["content-encoding"], answer.headers["content-type"]
        assert (answer.status_code, *kind) == (200, "gzip", "application/wasm")
        assert answer.content.startswith(b"\0asm") and len(answer.content) > 900_000
        assert (await http.get("/static/no-such-file")).status_code == 404
