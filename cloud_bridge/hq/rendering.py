"""How pages are made: templates, words in two languages, times as shops' clocks show them."""

import datetime
import json
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloud_bridge.hq.guard import SIGNED_IN
from cloud_bridge.hq.ready import zone
from cloud_bridge.hq.registry import BoxRow
from cloud_bridge.hq.words import LANGUAGES, locale, say_duration
from gateway.rules.reasons import REASONS

PAGES: Final = Path(__file__).parent / "pages"
LANGUAGE_COOKIE: Final = "sgw_lang"
YEAR_S: Final = 365 * 86_400
HEADQUARTERS_ZONE: Final = "Asia/Taipei"
FOR_FORMS: Final = ("invalid.", "refused.")  # words that the browser puts beside a field

_templates: Final = Environment(
    loader=FileSystemLoader(PAGES / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def page(request: Request, template: str, **values: Any) -> Response:
    """A whole page for whoever has signed in."""
    language, who = language_of(request), request.scope[SIGNED_IN]
    words = {key: text for key, text in locale(language).items() if key.startswith(FOR_FORMS)}
    response = HTMLResponse(
        render(template, language, path=request.url.path, who=who, words=json.dumps(words, ensure_ascii=False), **values)
    )
    if request.query_params.get("lang") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, samesite="strict", max_age=YEAR_S, path="/")
    return response


def render(template: str, language: str, **values: Any) -> str:
    """A template in a language."""
    shops = {box.store: _name(box, language) for box in values.get("boxes", ())}
    return _templates.get_template(template).render(t=partial(_say, language), lang=language, names=shops, **values)


def _name(box: BoxRow, language: str) -> str:
    return (box.name_zh if language == "zh-Hant" else box.name_en) or box.store


def language_of(request: Request) -> str:
    """The language somebody reads: as the address says, as they chose before, or the first."""
    for wanted in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wanted in LANGUAGES:
            return str(wanted)
    return LANGUAGES[0]


def _say(language: str, key: str, **fields: object) -> str:
    return locale(language)[key].format(**fields) if fields else locale(language)[key]


def _clock(wall_us: int, timezone: str = HEADQUARTERS_ZONE) -> str:
    """Time of day in a shop."""
    return _local(wall_us, timezone).strftime("%H:%M:%S")


def _moment(wall_us: int, timezone: str = HEADQUARTERS_ZONE) -> str:
    """Date and time in a shop."""
    return _local(wall_us, timezone).strftime("%Y-%m-%d %H:%M:%S")


def _local(wall_us: int, timezone: str) -> datetime.datetime:
    """A row may carry any number as its time; what no calendar holds is shown as 1970."""
    try:
        return datetime.datetime.fromtimestamp(wall_us / 1e6, zone(timezone))
    except (OverflowError, ValueError, OSError):
        return datetime.datetime.fromtimestamp(0, zone(timezone))


def _why(reason: str, language: str) -> str:
    known = REASONS.get(reason)
    return reason if known is None else known.text.zh if language == "zh-Hant" else known.text.en


_templates.filters.update(clock=_clock, moment=_moment, duration=say_duration, why=_why)
