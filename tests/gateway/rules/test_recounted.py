"""A headquarters that is put back to a backup, and told again what it had been told, knows what one knows that never was put back."""

from collections.abc import Callable
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.rules.assigning import Asked, Assigner, Given, Gone, Kept, Stand
from gateway.rules.recounted import Counted, absorbed, counting, due_again

RULES = Assigner()
Row = tuple[str, str, int, int]  # kind, start, number, units
BOXES = ("a", "b")


class Hq:
    """A stand, the marks of two boxes' lanes, the journal's last word, and a backup."""

    def __init__(self, units: int) -> None:
        self.stand = self.journal = self.kept = Stand("v", units)
        self.marks = {box: 0 for box in BOXES}
        self.kept_marks = dict(self.marks)

    def left(self, change: Callable[[Stand], Stand]) -> None:
        """Something leaves headquarters: it is in the journal."""
        self.stand = self.journal = change(self.stand)

    def take(self, box: str, row: Row) -> None:
        """The next row of a box."""
        kind, start, number, units = row
        self.marks[box] += 1
        if kind == "use":
            self.stand = RULES.use(self.stand, box, number, start, units)
        elif kind == "back":
            self.stand = RULES.taken_back(self.stand, box, number, start, units)
        else:
            self.stand = RULES.settled(self.stand, box, units, True)

    def restore(self) -> None:
        """As `journal.recall` does."""
        self.marks = dict(self.kept_marks)
        self.stand = RULES.recalled(self.kept, self.journal)


class World:
    """Two boxes with their rows, a headquarters that is restored now and then, and one that never is."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.units = chance.randint(1, 60)
        self.rows: dict[str, list[Row]] = {box: [] for box in BOXES}
        self.backs: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self.ever, self.restored = Hq(self.units), Hq(self.units)
        self.now_s = 0

    def step(self) -> None:
        """Anything."""
        box = self.chance.choice(BOXES)
        what = self.chance.choice(["give", "use", "use", "back", "settle", "backup", "restore", "destroy", "arrive"])
        if what == "give":
            self.now_s += 1
            self.both(lambda stand: self.given(stand, Asked(box, None, self.chance_units)))
        elif what == "destroy" and self.chance.random() < 0.3:
            self.both(lambda stand: RULES.destroyed(stand, box))
        elif what == "backup":
            self.restored.kept, self.restored.kept_marks = self.restored.stand, dict(self.restored.marks)
        elif what == "restore":
            self.restored.restore()
        else:
            self.write(box, what)

    def both(self, change: Callable[[Stand], Stand]) -> None:
        """What headquarters decides once all it was told is here."""
        self.told()
        self.chance_units = self.chance.randint(1, 30)
        for hq in (self.ever, self.restored):
            hq.left(change)

    def given(self, stand: Stand, asked: Asked) -> Stand:
        given = RULES.give(stand, replace(asked, units=self.chance_units), self.now_s, self.now_s + 10)
        return given.stand if isinstance(given, Given) else stand

    chance_units = 1

    def write(self, box: str, what: str) -> None:
        """A row of a box: also a use that comes too late, and reversals of any use."""
        start, numbers = self.chance.choice(["1-a", "2-b"]), range(1, self.ever.stand.number + 1)
        given: list[Kept | Gone] = [*self.ever.stand.kept, *self.ever.stand.gone]
        mine = [one.number for one in given if one.gateway == box and one.number in numbers]
        if what == "settle":
            self.rows[box].append(("settle", start, 0, self.now_s + self.chance.choice([0, 10])))
        elif what == "use" and mine:
            number, units = self.chance.choice(mine), self.chance.randint(1, 9)
            self.rows[box].append(("use", start, number, units))
            self.backs.setdefault((box, number), []).append((start, units))
        elif what == "back" and mine and (uses := self.backs.get((box, number := self.chance.choice(mine)))):
            spent, units = uses.pop(self.chance.randrange(len(uses)))
            self.rows[box].append(("back", spent, number, units))
        self.arrive(self.ever, box)
        if self.chance.random() < 0.5:
            self.arrive(self.restored, box)

    def arrive(self, hq: Hq, box: str) -> None:
        while hq.marks[box] < len(self.rows[box]):
            hq.take(box, self.rows[box][hq.marks[box]])

    def told(self) -> None:
        """Every row arrives, of both boxes in turn."""
        while open_ := [box for box in BOXES if self.restored.marks[box] < len(self.rows[box])]:
            box = self.chance.choice(open_)
            self.restored.take(box, self.rows[box][self.restored.marks[box]])


@given(st.integers(0, 1 << 32))
def test_told_again_it_knows_what_it_would_have_known(number: int) -> None:
    world = World(Random(number))
    for _ in range(60):
        world.step()
    world.told()
    assert known(world.restored.stand) == known(world.ever.stand)
    assert not [one.again for one in world.restored.stand.gone if one.again], "nothing is due any more"


def known(stand: Stand) -> tuple[object, ...]:
    """All but how often something of it left."""
    by_number = [tuple(sorted(some, key=lambda one: one.number)) for some in (stand.kept, stand.gone)]
    return stand.left, stand.exposed, stand.late, stand.number, *by_number


@given(st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 9), st.integers(0, 9)), max_size=8), st.integers(0, 8))
def test_what_is_due_again_changes_nothing_and_what_follows_is_news(rows: list[tuple[str, int, int]], cut: int) -> None:
    told: tuple[Counted, ...] = ()
    known_: tuple[Counted, ...] = ()
    for place, (epoch, used, back) in enumerate(rows):
        told = counting(told, epoch, used, back)
        known_ = told if place < cut else known_
    due = due_again(told, known_, ())
    for epoch, used, back in rows[cut:]:
        due, new = absorbed(due, epoch, used, back)
        assert (new.used, new.back) == (0, 0)
    assert absorbed(due, "p", 3, 2) == (due, Counted("p", 3, 2)) and not due


def test_a_stand_of_the_release_before_is_read_and_counts_on() -> None:
    text = b'{"voucher_id":"v","left":0,"number":2,"kept":[["b",2,5,9,[]]],"gone":[["a",1,9,5,5,false,0]],"told":3}'
    old = msgspec.json.decode(text, type=Stand)
    assert old == Stand("v", 0, 2, (Kept("b", 2, 5, 9),), (Gone("a", 1, 9, 5, 5),), told=3)
    again = RULES.recalled(replace(old, told=2), old)
    assert (again.left, again.gone[0].again, again.kept[0].told) == (0, (), ())
    assert RULES.use(again, "a", 1, "1-a", 2).late == 2
