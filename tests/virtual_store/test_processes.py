"""The laptop's stand-in for systemd, with real processes."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from virtual_store.processes import Keeper

SLEEPER = "import signal, time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Sleepers(Keeper):
    """A keeper whose processes are one-liners instead of units."""

    def keep_script(self, name: str, script: str) -> None:
        """Keep `python -c SCRIPT` running."""
        self.keep(name, name)
        self.kept[name].arguments[:] = [sys.executable, "-c", script]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(pid_of: Sleepers, name: str, other_than: int = 0) -> int:
    async with asyncio.timeout(40):
        while pid_of.kept[name].pid in (0, other_than):  # noqa: ASYNC110 - processes have no events to wait for
            await asyncio.sleep(0.02)
    return pid_of.kept[name].pid


async def test_a_killed_process_is_started_again_and_said_so(tmp_path: Path) -> None:
    told: list[str] = []
    async with Sleepers(tmp_path, told.append) as keeper:
        keeper.keep_script("one", SLEEPER)
        first = await until(keeper, "one")
        os.kill(first, signal.SIGKILL)
        second = await until(keeper, "one", other_than=first)
        assert alive(second)
        assert keeper.kept["one"].restarts == 1
    assert told == ["one ended (signal SIGKILL) and starts again"]
    assert not alive(second)


async def test_nothing_is_left_when_the_keeper_ends(tmp_path: Path) -> None:
    async with Sleepers(tmp_path, lambda _: None) as keeper:
        for name in ("one", "two", "three"):
            keeper.keep_script(name, SLEEPER)
        pids = [await until(keeper, name) for name in ("one", "two", "three")]
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
async def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    async with Sleepers(tmp_path, lambda _: None) as keeper:
        keeper.keep_script("deaf", STUBBORN)
        pid = await until(keeper, "deaf")
        await asyncio.sleep(0.3)
    assert not alive(pid)


async def test_a_wrong_configuration_is_not_tried_again_and_its_words_are_shown(tmp_path: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with Sleepers(tmp_path, lambda _: None) as keeper:
            keeper.keep_script("odd", "import sys; print('store-gateway: nobody knows `prot`', file=sys.stderr); sys.exit(78)")
            await asyncio.sleep(5)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConfigError)
    assert "nobody knows `prot`" in str(error)
    assert keeper.kept["odd"].restarts == 0
