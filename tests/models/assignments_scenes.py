"""The bounds within which numbered assignments are searched, fast and long, and where each clause is missed first."""

from typing import Final

from gateway.rules.assigning import Wish
from tests.models.assignments_state import Scene

SCENES: Final = (
    Scene("give and free", gives=3, spends=2, releases=1, settles=1, wishes=1),
    Scene("two uses", units=2, gives=2, spends=3, releases=1, settles=1),
    Scene("old image", units=2, gives=2, spends=3, presses=1, restores=1, old_asks=True),
    Scene("old image, released", gives=3, spends=2, releases=1, presses=1, restores=1),
    Scene("old image, settled", gives=3, spends=2, settles=1, presses=1, restores=1),
    Scene("restarts", gives=2, spends=2, releases=1, presses=1, crashes=1, restores=1),
    Scene("swap", gives=3, spends=2, releases=1, wishes=1, destroys=1),
    Scene("headquarters restored", gives=3, spends=2, releases=2, backups=1, hq_restores=1, wishes=1),
    Scene("balance", units=2, share=1, gives=3, spends=3, settles=1),
    Scene("moves", gives=3, spends=2, releases=1, settles=1, wishes=1, wish=Wish.MOVE),
    Scene("taken back", gives=3, spends=2, releases=1, settles=1, wishes=1, reverses=1),
    Scene("old image, taken back", gives=1, spends=3, presses=1, restores=1, reverses=2),
    Scene("swap, taken back", gives=2, spends=3, settles=1, destroys=1, reverses=1),
    Scene("headquarters restored, taken back", gives=3, spends=2, settles=1, backups=1, hq_restores=1, reverses=1),
    Scene("balance, taken back", units=2, share=1, gives=3, spends=3, settles=1, reverses=1),
)

MISSED_IN: Final[dict[str, Scene]] = {
    "released_is_over": SCENES[0],
    "settled_is_over": SCENES[0],
    "exclusive": SCENES[0],
    "same_number": SCENES[0],
    "current_number": Scene("released twice", gives=3, spends=2, releases=2, presses=1, crashes=1, restores=1),
    "latest_end": SCENES[0],
    "settled_at_end": SCENES[0],
    "newest_opening": SCENES[3],
    "wish_waits": SCENES[0],
    "exposure": SCENES[6],
    "journal": SCENES[7],
    "in_order": SCENES[0],
    "naming_needed": SCENES[3],
    "naming_opens": SCENES[3],
    "named_less_spent": SCENES[2],
    "opening_tells_stands": SCENES[3],
    "opening_tells_settled": SCENES[4],
    "counted_stays": SCENES[11],
    "dark_booked": SCENES[12],
    "box_named": SCENES[6],
}

# What a search of tens of seconds finds, as the steps of its counterexample.
TOLD_AGAIN: Final = Scene(
    "headquarters restored, balance taken back", units=2, share=2, gives=3, spends=4, settles=1, backups=1, hq_restores=1, reverses=1
)
PUT_BACK: Final = Scene("reversed, put back", gives=2, spends=4, settles=1, presses=1, restores=1, reverses=2)
_FIRST, _AFTER = "n=1 for a start None x1 until 1", "n=2 for a start None x1 until 2"
_GIVEN: Final = (f"give to a for start 0: {_FIRST}", f"spend at a: {_FIRST}", "reverse 0.1 at a")
_TWO: Final = "n=1 for a start None x2 until 1"
_AGAIN: Final = (f"give to a for start 2: {_AFTER}", f"spend at a: {_AFTER}")
ALONG_IN: Final = {"told_again": TOLD_AGAIN}  # all others: `PUT_BACK`
MISSED_ALONG: Final[dict[str, tuple[str, ...]]] = {
    "told_again": (
        f"give to a for start 0: {_TWO}", f"spend at a: {_TWO}", "spend at a: held", "settle through 1 at a", "reverse 0.1 at a",
        "row 2 of start 0 arrives: VoucherRedeemed", "row 3 of start 0 arrives: VoucherRedeemed",
        "row 4 of start 0 arrives: SettledThrough", "backup", "row 5 of start 0 arrives: RedemptionReversed",
        "give to a for start 0: n=2 for a start None x1 until 2", "spend at a: n=2 for a start None x1 until 2", "headquarters restored",
        "row 5 of start 0 arrives: RedemptionReversed", "give to a for start 0: n=2 for a start None x2 until 3",
        "spend at a: n=2 for a start None x2 until 3",
    ),
    "late_first": (
        *_GIVEN, "a is put back to row 0 of start 0", "press opening for a", "opening 1 is adopted at a", "spend at a: held",
        "settle through 1 at a", "row 2 of start 2 arrives: VoucherRedeemed", "row 3 of start 2 arrives: SettledThrough",
        "row 2 of start 0 arrives: VoucherRedeemed", "row 3 of start 0 arrives: RedemptionReversed", *_AGAIN,
    ),
    "returned_given": (
        *_GIVEN, "a is put back to row 0 of start 0", "press opening for a", "row 2 of start 0 arrives: VoucherRedeemed",
        "opening 1 is adopted at a", "spend at a: held", "settle through 1 at a", "row 2 of start 2 arrives: VoucherRedeemed",
        "row 3 of start 2 arrives: SettledThrough", "row 3 of start 0 arrives: RedemptionReversed", *_AGAIN,
    ),
    "reversed_once": (
        *_GIVEN, "spend at a: held", "settle through 1 at a", "row 2 of start 0 arrives: VoucherRedeemed",
        "row 3 of start 0 arrives: RedemptionReversed", "row 4 of start 0 arrives: VoucherRedeemed",
        "row 5 of start 0 arrives: SettledThrough", "a is put back to row 2 of start 0", "press opening for a",
        "opening 1 is adopted at a", "reverse 0.1 at a", "row 2 of start 2 arrives: RedemptionReversed", *_AGAIN,
    ),
}  # fmt: skip


def wider(scene: Scene) -> Scene:
    """The same scene with one more of what it already has."""
    more = {name: getattr(scene, name) + 1 for name in ("gives", "spends", "presses") if getattr(scene, name)}
    return scene._replace(**more)


# Scenes in which one step more of each is minutes; all others are widened twice.
MANY: Final = frozenset({"old image", "old image, released", "old image, settled", "restarts", "old image, taken back"})
LONG: Final = (*(wider(scene) if scene.name in MANY else wider(wider(scene)) for scene in SCENES), wider(TOLD_AGAIN))
