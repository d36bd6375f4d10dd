"""Schemathesis over the OpenAPI document, against real sockets: no fault of the server, and no answer the document does not tell of."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from gateway.config import GatewayConfig, TillTable
from tests.conftest import VirtualClock

from .real_shop import open_doors

CHECKS: Any = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = "text/event-stream"
EACH = 4  # requests of each operation and mode


def walk(document: dict[str, Any], url: str, headers: dict[str, str]) -> int:
    """Send what fits the document, and what does not; how many requests were answered."""
    sent = 0
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        schema = schemathesis.openapi.from_dict(document)
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            if ENDLESS in str(operation.definition.raw.get("responses")):
                continue

            @seed(7)
            @settings(max_examples=EACH, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                nonlocal sent
                case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)
                sent += 1

            with contextlib.suppress(Unsatisfiable):  # without parameters there is nothing to send wrongly
                ask()
    return sent


@pytest.mark.slow
async def test_schemathesis_finds_no_fault_and_no_undocumented_answer(
    shop_config: GatewayConfig, ledger_path: Path, clock: VirtualClock
) -> None:
    del ledger_path
    quick = msgspec.structs.replace(shop_config, till=TillTable(requests_per_s=100_000))
    async with open_doors(quick, clock) as doors:
        document = (await doors.nobody().http.get("/v1/openapi.json")).json()
        manager = (await doors.person("s-2")).http
        headers = dict(manager.headers) | {"cookie": "; ".join(f"{name}={value}" for name, value in manager.cookies.items())}
        sent = await asyncio.to_thread(walk, document, doors.url, headers)
        assert sent > len(document["paths"]) * EACH
        await doors.shop.desk.prove()
