"""The pages: made on the server in one language, with the words of both on board, so that switching needs no request."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import segno
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gateway.asking import MAX_ASKING_B, unpack
from gateway.errors import MalformedFrame
from gateway.kiosk.access import Access, give_key, is_own_screen, renew_cookie
from gateway.kiosk.api import known_station
from gateway.kiosk.words import CONSENT_WORDS, LANGUAGES, WORDS

if TYPE_CHECKING:
    from gateway.core.desk import Desk

HERE: Final = Path(__file__).parent
CURRENCIES: Final = {"Asia/Hong_Kong": "HKD"}  # what a shop's vouchers with a value are counted in; elsewhere TWD
PASSING: Final = ("not_serving", "box_retired", "device_revoked")  # a kiosk has no reload button: its page looks again by itself

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, lang: str, prefixes: tuple[str, ...], **values: object) -> str:
    """A page; `prefixes` choose which words it takes along."""
    lang = lang if lang in LANGUAGES else LANGUAGES[0]

    def word(key: str) -> str:
        return WORDS[lang][key]

    def w(key: str) -> Markup:
        return Markup('<span data-t="{}">{}</span>').format(key, word(key))

    texts = {name: {key: text for key, text in words.items() if key.startswith(prefixes)} for name, words in WORDS.items()}
    if "consent." in prefixes:
        texts = {name: texts[name] | CONSENT_WORDS[name] for name in texts}
    return _environment.get_template(template).render(lang=lang, word=word, w=w, texts=texts, **values)


def calm_page(words: dict[str, Any]) -> str:
    """The page for whatever went wrong."""
    shown = {key: words[key] for key in ("message", "next_step")}
    return render("calm.html", LANGUAGES[0], ("common.",), again=words["error"] in PASSING, **shown)


def router(desk: "Desk", access: Access) -> APIRouter:
    """The three pages, and the one that stands for a kiosk that is not paired."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
    store = desk.config.store
    shop = {"zh-Hant": store.name_zh or store.store, "en": store.name_en or store.name_zh or store.store}

    stations = [{"name": s.name, "zh": s.name_zh or s.name, "en": s.name_en or s.name} for s in desk.config.stations]
    shared: dict[str, object] = {"shop": shop, "stations": stations, "timezone": store.timezone}
    shared["currency"] = CURRENCIES.get(store.timezone, "TWD")

    @routes.get("/")
    async def glance(lang: str = "") -> HTMLResponse:
        return HTMLResponse(render("glance.html", lang, ("common.", "glance.", "wall."), **shared))

    @routes.get("/kiosk/{station}")
    async def kiosk(station: str, request: Request, lang: str = "") -> HTMLResponse:
        known_station(desk, station)
        device = access.of_station(request, station)
        key = await desk.devices.pair_own(station) if device is None and is_own_screen(request) else None
        table = next(table for table in desk.config.stations if table.name == station)
        place = {"zh-Hant": table.name_zh or station, "en": table.name_en or station}
        page = "kiosk.html" if device or key else "pairing.html"
        answer = HTMLResponse(
            render(
                page,
                lang,
                ("common.", "kiosk.", "read.", "result.", "consent."),
                place=place,
                station=station,
                checkin=table.checkin,
                **shared,
            )
        )
        if device is not None:
            desk.devices.see(device)
            renew_cookie(request, answer, station)
        if key is not None:
            give_key(request, answer, station, key)
        return answer

    @routes.get("/v1/asking.svg")
    async def asking_picture(text: Annotated[str, Query(max_length=2 * MAX_ASKING_B)]) -> Response:
        """The QR code of an answer's `asking`: of nothing else, so that no link can make this screen show what is not ours."""
        try:
            unpack(text)
        except MalformedFrame as error:
            raise HTTPException(404, "not_found") from error
        picture = io.BytesIO()
        segno.make_qr(text, error="l", boost_error=False).save(picture, kind="svg", scale=4, border=4, light="#fff")
        return Response(picture.getvalue(), media_type="image/svg+xml")

    @routes.get("/staff")
    async def staff_page(lang: str = "") -> HTMLResponse:
        people = [{"ref": person.staff_ref, "name": person.name} for person in desk.staff()]
        return HTMLResponse(render("staff.html", lang, ("common.", "staff.", "read.", "result."), people=people, **shared))

    return routes
