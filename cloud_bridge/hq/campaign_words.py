"""Why a definition or a basket is refused, said so that a form can show it at the field, in the reader's language."""

import re
from typing import Final

from cloud_bridge.hq.registry import RefusedAsk
from gateway.rules.definitions import CampaignError

PLACE: Final = re.compile(r"at `\$((?:\.\w+|\[\d+\]|\[\.\.\.\])*)`")
LACKS: Final = re.compile(r"missing required field `(\w+)`")
# What no single field can say (`gateway.rules.definitions`), by a word of its text: the field to look at, and the pages' words.
CONTRADICTIONS: Final = {
    "a code goes with the trigger": ("code", "refused.code_trigger"),
    "face_value needs the trigger": ("trigger", "refused.face_trigger"),
    "revisit comes by itself": ("trigger", "refused.revisit_alone"),
    "takes off either": ("rule.off_minor", "refused.either_off"),
    "`max_off_minor` goes with": ("rule.max_off_minor", "refused.max_off"),
    "`max_times` goes with": ("rule.max_times", "refused.max_times"),
    "`last_day` lies before": ("window.last_day", "refused.days_swapped"),
    "both extra and excluded": ("window.excluded_days", "refused.day_twice"),
    "hours begin at most": ("window.hours", "refused.hours"),
    "outside the years": ("window.first_day", "refused.years"),
}


def refusal(problem: CampaignError) -> RefusedAsk:
    """A refused definition as an answer."""
    for word, (field, code) in CONTRADICTIONS.items():
        if word in problem.problem:
            return RefusedAsk(422, problem.problem, problem.hint, field=field, code=code)
    field, code = _place(problem.problem)
    return RefusedAsk(422, problem.problem, problem.hint, field=field, code=code)


def basket_refusal(why: str) -> RefusedAsk:
    """A refused basket as an answer."""
    field, code = _place(why)
    return RefusedAsk(
        422,
        why,
        "docs/campaigns.md shows what a basket looks like",
        field=field.replace("ask.basket.", "check.").replace("ask.", "check."),
        code=code,
    )


def _place(text: str) -> tuple[str, str]:
    at, lacks = PLACE.search(text), LACKS.search(text)
    path = at[1].lstrip(".").replace("[...]", "[0]") if at else ""
    if lacks:
        return f"{path}.{lacks[1]}".lstrip("."), "invalid.missing"
    return path, "refused.value" if path else ""
