"""The bounds within which the road is searched: what may fail together, and how often; and where each rule is missed first."""

from typing import Final

from tests.models.machine import Scene

SCENES: Final = (
    Scene("crashes", writes=2, cuts=1, kills=1),
    Scene("image", writes=1, saves=1, restores=1, kills=1),
    Scene("images", writes=1, saves=1, restores=2),
    Scene("backups", writes=1, backups=3, expiries=1, hq_restores=1),
    Scene("lanes", lanes=2, writes=1, kills=1, backups=1, hq_restores=1, prompt=True),
    Scene("traffic", lanes=2, writes=2, rollups=1, kills=1),
    Scene("forgotten", lanes=2, writes=2, backups=1, hq_restores=1, rollups=1, prompt=True),
    Scene("damage", writes=1, damages=1, kills=1, late_asks=True),
    Scene("mended", writes=0, damages=1, kills=1, saves=1, restores=1),
    Scene("poison", writes=2, poison=0b10, cuts=1),
    Scene("resume", writes=2, saves=1, resumes=1),
)

# Minutes to hours each. Two image generations, and both ends put back.
LONG: Final = (
    Scene("crashes", writes=2, cuts=2, kills=1, faults=2),
    Scene("image", writes=2, saves=1, restores=1, kills=1, late_asks=True),
    Scene("images", writes=1, saves=2, restores=2),
    Scene("backups", writes=2, backups=3, expiries=2, hq_restores=2),
    Scene("backup and crash", writes=1, backups=2, expiries=1, hq_restores=1, cuts=1),
    Scene("both ends", writes=1, backups=1, hq_restores=1, saves=1, restores=1),
    Scene("lanes", lanes=2, writes=1, kills=2, backups=1, hq_restores=1, prompt=True),
    Scene("traffic", lanes=2, writes=3, rollups=1, kills=1, cuts=1, faults=2),
    Scene("forgotten", lanes=2, writes=3, backups=2, expiries=1, hq_restores=1, rollups=1, kills=1, faults=2, prompt=True),
    Scene("damage", writes=2, damages=2, kills=1, cuts=1, faults=3),
    Scene("mended", writes=1, damages=1, kills=1, saves=1, restores=1),
    Scene("poison", writes=2, poison=0b110, cuts=1, kills=1, backups=1, hq_restores=1, faults=2),
    Scene("resume", writes=3, saves=2, resumes=2),
)

_IMAGE: Final = Scene("image", writes=1, saves=1, restores=1)
_RESUME: Final = Scene("resume", writes=2, saves=1, resumes=1)
_BACKUPS: Final = Scene("backups", writes=1, backups=2, expiries=1, hq_restores=1)
_LANES: Final = Scene("lanes", lanes=2, writes=1, kills=2, backups=1, hq_restores=1, prompt=True)

# Rule to the bounds that suffice to miss it, and what then goes wrong.
MISSED_IN: Final = {
    "head_own": (_RESUME, "a row behind the cursor is not at headquarters"),
    "kept_until_backed_up": (_BACKUPS, "trimmed that headquarters may still need"),
    "lowest_backup": (_BACKUPS, "trimmed that headquarters may still need"),
    "named_only": (Scene("crashes", writes=1, cuts=1), "sticks"),
    "epoch_row_first": (Scene("crashes", writes=1, cuts=1), "false alarm"),
    "new_epoch": (Scene("image", writes=2, saves=1, restores=1), "sticks"),
    "ancestry": (_IMAGE, "a row came before one it continues"),
    "tombstone_above_mark": (Scene("traffic", lanes=2, writes=1, rollups=1), "counted twice"),
    "declared_is_known": (Scene("mended", writes=0, damages=1, kills=1, saves=1, restores=1), "sticks"),
    "continues": (Scene("resume", writes=3, saves=1, resumes=1), "a row behind the cursor is not at headquarters"),
    "mark_with_rows": (Scene("crashes", writes=0), "counted twice"),
    "ack_lower": (_IMAGE, "sticks"),
    "ask": (_BACKUPS, "books"),
    "ask_whole_line": (_LANES, "books"),
    "alarm_children": (Scene("image", writes=0, saves=1, restores=1, kills=1), "missed alarm"),
    "alarm_mark": (_IMAGE, "missed alarm"),
    "open_descendants": (Scene("image", writes=0, saves=1, restores=1, kills=2), "without an opening"),
    "opening_bound": (Scene("image", writes=1, saves=1, restores=2), "admitted without uses"),
    "poison_moves_mark": (Scene("poison", writes=1, poison=0b10), "sticks"),
}
