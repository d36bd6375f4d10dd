"""Devices that show one code in the same moment, with kill -9 in between: each code is redeemed exactly once."""

from pathlib import Path

import pytest

from tests.gateway.kiosk.race import race


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "codes", "kills"), [(2, 20, 1), (8, 40, 2)])
async def test_each_code_is_redeemed_exactly_once_whatever_is_killed(tmp_path: Path, devices: int, codes: int, kills: int) -> None:
    found = await race(tmp_path, codes=codes, devices=devices, kills=kills, seed=devices)
    assert (found.codes, found.kills, found.redeemed) == (codes, kills, codes)
    assert (found.twice, found.lost, found.changed) == (0, 0, 0)
