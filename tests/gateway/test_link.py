"""The link, over a real unix socket: answers after the commit, events once, commands at most once."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.errors import DeviceError, MalformedFrame
from gateway.events import Command, DeviceChanged, OpenCompartment
from gateway.link import (
    LENGTH,
    MAX_DEADLINE_NS,
    MAX_FRAME_B,
    MAX_UNANSWERED,
    Answered,
    Hello,
    LedgerReaches,
    LinkClient,
    Order,
    State,
    pack,
)
from tests.conftest import VirtualClock, until
from tests.gateway.link_ends import Core, changed, close, fake_core, raw, settle

OPEN_2 = OpenCompartment(bank="wall", compartment=2)


Alive = Callable[[LinkClient], "asyncio.Task[None]"]


@pytest.fixture
async def alive() -> AsyncIterator[Alive]:
    """Runs drivers until the test is over."""
    tasks: list[asyncio.Task[None]] = []

    def run(client: LinkClient) -> "asyncio.Task[None]":
        tasks.append(task := asyncio.create_task(client.run()))
        return task

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def core(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[Core]:
    core = Core(tmp_path / "link.sock", clock)
    await core.start()
    yield core
    await core.stop()


@pytest.fixture
async def driver(core: Core, alive: Alive) -> LinkClient:
    client = LinkClient(core.path, "locker@wall", core.clock)
    alive(client)
    await until(lambda: core.server.connected("locker@wall"))
    return client


# ---------------------------------------------------------------- up


async def test_an_event_is_answered_only_after_its_commit(core: Core, driver: LinkClient) -> None:
    answer = driver.state(changed(core))
    await until(lambda: len(core.commits) == 1)
    await settle()
    assert not answer.done()
    assert driver.unanswered == 1
    core.commits[0].set_result(b"committed")
    assert await asyncio.wait_for(answer, 5) == b"committed"
    assert driver.unanswered == 0


async def test_answers_come_in_the_order_of_their_commits_not_of_their_events(core: Core, driver: LinkClient) -> None:
    first, second = driver.state(changed(core, "1")), driver.state(changed(core, "2"))
    await until(lambda: len(core.commits) == 2)
    core.commits[1].set_result(b"2")
    assert await asyncio.wait_for(second, 5) == b"2"
    assert not first.done()
    core.commits[0].set_result(b"1")
    assert await asyncio.wait_for(first, 5) == b"1"


async def test_core_restarting_gets_the_unanswered_again_exactly_as_they_were(core: Core, driver: LinkClient) -> None:
    answered = driver.state(changed(core, "answered"))
    await until(lambda: len(core.commits) == 1)
    core.commits[0].set_result(b"")
    await asyncio.wait_for(answered, 5)
    waiting = [driver.state(changed(core, str(number))) for number in range(20)]
    await until(lambda: len(core.decided) == 21)
    before = core.decided[1:]
    core.decided.clear()
    core.commits.clear()
    core.commit_at_once = True
    await core.restart()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert core.decided == before


async def test_what_was_stated_while_core_was_away_comes_in_order_when_it_is_back(
    tmp_path: Path, clock: VirtualClock, alive: Alive
) -> None:
    core = Core(tmp_path / "link.sock", clock)
    core.commit_at_once = True
    client = LinkClient(core.path, "ble@radio", clock)
    alive(client)
    answers = [client.state(changed(core, str(number))) for number in range(5)]
    await settle()
    assert not client.connected
    await core.start()
    await asyncio.wait_for(asyncio.gather(*answers), 5)
    assert [event.detail for _, _, event in core.decided if isinstance(event, DeviceChanged)] == ["0", "1", "2", "3", "4"]
    await core.stop()


async def test_an_event_stated_twice_under_one_id_is_one_event(core: Core, driver: LinkClient) -> None:
    assert driver.state(changed(core), "one") is driver.state(changed(core), "one")
    await settle()
    assert len(core.decided) == 1


async def test_what_no_frame_can_hold_is_refused_at_once_and_blocks_nothing(core: Core, driver: LinkClient) -> None:
    with pytest.raises(MalformedFrame):
        driver.state(changed(core, "x" * MAX_FRAME_B))
    assert driver.unanswered == 0
    core.commit_at_once = True
    assert await asyncio.wait_for(driver.state(changed(core)), 5) == b"ok"


async def test_a_driver_alone_for_long_drops_its_oldest_and_counts_them(tmp_path: Path, clock: VirtualClock) -> None:
    client = LinkClient(tmp_path / "link.sock", "ble@radio", clock)
    event = DeviceChanged("ble@radio", "up", "", clock.now())
    futures = [client.state(event) for _ in range(MAX_UNANSWERED + 3)]
    assert (client.unanswered, client.dropped) == (MAX_UNANSWERED, 3)
    assert [future.cancelled() for future in futures[:4]] == [True, True, True, False]


# ---------------------------------------------------------------- down


def obeyed_by(driver: LinkClient) -> list[tuple[str, Command]]:
    obeyed: list[tuple[str, Command]] = []
    driver.on_command(lambda intent_id, command, _deadline_ns: obeyed.append((intent_id, command)))
    return obeyed


async def test_a_command_arrives_once(core: Core, driver: LinkClient) -> None:
    obeyed = obeyed_by(driver)
    core.server.order("locker@wall", "i1", OPEN_2)
    await until(lambda: bool(obeyed))
    await settle()
    assert obeyed == [("i1", OPEN_2)]


async def test_a_command_to_an_absent_driver_is_refused_and_never_sent(core: Core, clock: VirtualClock, alive: Alive) -> None:
    with pytest.raises(DeviceError):
        core.server.order("locker@wall", "i1", OPEN_2)
    client = LinkClient(core.path, "locker@wall", clock)
    obeyed = obeyed_by(client)
    alive(client)
    await until(lambda: core.server.connected("locker@wall"))
    await settle()
    assert obeyed == []


async def test_no_command_outlives_its_connection(core: Core) -> None:
    """The first connection never reads; what was sent to it is gone with it."""
    _, writer = await raw(core, pack(Hello("locker@wall")))
    await until(lambda: core.server.connected("locker@wall"))
    core.server.order("locker@wall", "i1", OPEN_2)
    await close(writer)
    await until(lambda: not core.server.connected("locker@wall"))
    reader, again = await raw(core, pack(Hello("locker@wall")))
    await until(lambda: core.server.connected("locker@wall"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    await close(again)


async def test_no_command_goes_to_who_has_left_while_answers_are_due(core: Core) -> None:
    _, writer = await raw(core, pack(Hello("locker@wall")), pack(State("e1", changed(core))))
    await until(lambda: len(core.commits) == 1)
    await close(writer)
    await until(lambda: ("locker@wall", False) in core.joined)  # though the commit of e1 is not done
    with pytest.raises(DeviceError):
        core.server.order("locker@wall", "i1", OPEN_2)
    core.commits[0].set_result(b"")


async def test_late_and_seen_commands_are_not_obeyed(tmp_path: Path, clock: VirtualClock, alive: Alive) -> None:
    now_ns = clock.boottime_ns()
    frames = [
        pack(Order("late", now_ns - 1, OPEN_2)),
        pack(Order("i1", now_ns, OPEN_2)),
        pack(Order("i1", now_ns + MAX_DEADLINE_NS, OPEN_2)),
        pack(Order("i2", now_ns + MAX_DEADLINE_NS, OPEN_2)),
    ]
    server = await fake_core(tmp_path / "link.sock", *frames)
    client = LinkClient(tmp_path / "link.sock", "locker@wall", clock)
    obeyed = obeyed_by(client)
    alive(client)
    await until(lambda: len(obeyed) >= 2)
    await settle()
    assert [intent_id for intent_id, _ in obeyed] == ["i1", "i2"]
    server.close()


async def test_a_deadline_is_at_most_three_seconds_of_the_boot_clock(core: Core) -> None:
    reader, writer = await raw(core, pack(Hello("locker@wall")))
    await until(lambda: core.server.connected("locker@wall"))
    core.server.order("locker@wall", "i1", OPEN_2)
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    frame = await reader.readexactly(length)
    assert str(core.clock.boottime_ns() + 3_000_000_000).encode() in frame
    await close(writer)


# ---------------------------------------------------------------- peers


@pytest.mark.parametrize(
    "garbage",
    [
        LENGTH.pack(MAX_FRAME_B + 1),
        LENGTH.pack(3) + b"\xff\xfe\xfd",
        LENGTH.pack(2) + b"{}",
        LENGTH.pack(20) + b'{"type":"Undreamtof"}'[:20],
        (lambda deep: LENGTH.pack(len(deep)) + deep)(b'{"type":"Hello","unit":"x","more":' + b"[" * 100_000),
        pack(Hello("ble@other")),
    ],
    ids=["oversize", "not utf-8", "no type", "cut json", "deep", "second hello"],
)
async def test_a_peer_that_talks_rubbish_cuts_only_itself(core: Core, driver: LinkClient, garbage: bytes) -> None:
    reader, writer = await raw(core, pack(Hello("ble@radio")), pack(State("e1", changed(core))), garbage)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await until(lambda: not core.server.connected("ble@radio"))
    assert not core.server.connected("ble@other")
    assert core.server.connected("locker@wall")
    core.commit_at_once = True
    assert await asyncio.wait_for(driver.state(changed(core)), 5) == b"ok"
    await close(writer)


async def test_events_before_a_hello_count_for_nothing(core: Core) -> None:
    _, writer = await raw(core, pack(State("e1", changed(core))), pack(Hello("")))
    await settle()
    assert (core.decided, core.joined) == ([], [])
    await close(writer)


async def test_a_core_that_talks_rubbish_costs_a_driver_no_event(tmp_path: Path, clock: VirtualClock, alive: Alive) -> None:
    path = tmp_path / "link.sock"
    rubbish = await fake_core(path, LENGTH.pack(MAX_FRAME_B + 1))
    client = LinkClient(path, "locker@wall", clock)
    answer = client.state(DeviceChanged("locker@wall", "up", "", clock.now()))
    running = alive(client)
    await asyncio.sleep(0.1)
    assert not running.done()
    rubbish.close()
    core = Core(path, clock)
    core.commit_at_once = True
    await core.start()
    assert await asyncio.wait_for(answer, 5) == b"ok"
    await core.stop()


async def test_two_drivers_get_each_their_own(core: Core, driver: LinkClient, alive: Alive) -> None:
    other = LinkClient(core.path, "locker@annex", core.clock)
    alive(other)
    await until(lambda: core.server.connected("locker@annex"))
    at_wall, at_annex = obeyed_by(driver), obeyed_by(other)
    core.server.order("locker@annex", "i1", OPEN_2)
    core.server.order("locker@wall", "i2", OPEN_2)
    await until(lambda: bool(at_wall and at_annex))
    assert ([intent for intent, _ in at_wall], [intent for intent, _ in at_annex]) == (["i2"], ["i1"])
    answers = driver.state(changed(core, "wall")), other.state(changed(core, "annex"))
    await until(lambda: len(core.commits) == 2)
    for (unit, _, _), commit in zip(core.decided, core.commits, strict=True):
        commit.set_result(unit.encode())
    assert [await asyncio.wait_for(answer, 5) for answer in answers] == [b"locker@wall", b"locker@annex"]


async def test_a_driver_that_comes_twice_is_known_by_its_last_connection(core: Core) -> None:
    old, old_writer = await raw(core, pack(Hello("locker@wall")))
    await until(lambda: core.server.connected("locker@wall"))
    new, new_writer = await raw(core, pack(Hello("locker@wall")))
    assert await asyncio.wait_for(old.read(), 5) == b""
    core.server.order("locker@wall", "i1", OPEN_2)
    assert b"i1" in await asyncio.wait_for(new.read(200), 5)
    await settle()
    assert core.joined == [("locker@wall", True), ("locker@wall", True)]
    await close(old_writer)
    await close(new_writer)


async def test_a_snapshot_follows_the_events_that_were_not_answered(core: Core, clock: VirtualClock, alive: Alive) -> None:
    client = LinkClient(core.path, "locker@wall", clock)

    def greet() -> None:
        client.state(changed(core, "snapshot"))

    client.on_connect(greet)
    client.state(changed(core, "old 1"))
    client.state(changed(core, "old 2"))
    alive(client)
    await until(lambda: len(core.decided) == 3)
    assert [event.detail for _, _, event in core.decided if isinstance(event, DeviceChanged)] == ["old 1", "old 2", "snapshot"]


async def test_only_the_latest_notice_is_told_and_it_is_told_again_on_return(core: Core, clock: VirtualClock, alive: Alive) -> None:
    for seq in (1, 2, 3):
        core.server.tell("bridge", LedgerReaches(1, {1: {0: seq}}, {}))
    client = LinkClient(core.path, "bridge", clock)
    heard: list[int] = []
    client.on_notice(lambda notice: heard.append(notice.reach[1][0]))
    running = alive(client)
    await until(lambda: heard == [3])
    core.server.tell("bridge", LedgerReaches(1, {1: {0: 4}}, {}))
    await until(lambda: heard == [3, 4])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    alive(client)
    await until(lambda: heard == [3, 4, 4])


async def test_only_the_stores_group_reaches_the_socket(core: Core) -> None:
    assert stat.S_IMODE(core.path.stat().st_mode) == 0o660


def test_a_frame_holds_what_it_may_and_no_more() -> None:
    room = MAX_FRAME_B - len(pack(Answered("e", b""))) + LENGTH.size
    fits = room // 4 * 3  # bytes travel as base64
    assert len(pack(Answered("e", bytes(fits)))) <= MAX_FRAME_B + LENGTH.size
    with pytest.raises(MalformedFrame):
        pack(Answered("e", bytes(fits + 3)))
