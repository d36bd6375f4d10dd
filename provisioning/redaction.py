"""Takes out of texts what must not leave a box: keys, tokens, PINs, numbers of phones and cards, addresses of radios.

It errs on the safe side. What may stay is short: words, paths, sizes, ports, dates and times, versions. Every long number, every
long run of letters and digits that is no word, and whatever stands behind a word such as `pin`, is replaced by what it was taken for.
"""

import re
from typing import Final

MARK: Final = "‹{}›"
MAX_DIGITS: Final = 5  # in a run of joined words
SENSITIVE: Final = "|".join(
    [
        "pin", "secret", "token", "password", "passwd", "passphrase", "api[_-]?key", "private[_-]?key", "authorization", "bearer", "cookie",
        "phone", "mobile", "tel", "email", "customer", "密碼", "電話", "手機", "姓名",
    ]
)  # fmt: skip
# What stands behind such a word: after a colon or the like, or, without one, whatever holds a digit.
_BEHIND: Final = r"\w{0,20}[\"']?(?:\s*(?:[:=：]|\bis\b|\bwas\b|為|是)\s*(?:bearer\s+|basic\s+)?|\s+(?=\S*\d))"

_RULES: Final[list[tuple[re.Pattern[str], str]]] = [
    (re.compile(r"-----BEGIN [^-]{1,60}-----.*?(?:-----END [^-]{1,60}-----|\Z)", re.DOTALL), "key"),
    (re.compile(r"(?:V1|SGE1):[0-9A-Z $%*+\-./:]{20,}"), "code"),
    (re.compile(rf"(?i)(?<![a-z])((?:{SENSITIVE}){_BEHIND})[^\s,;，；<‹]+"), "secret"),
    (re.compile(r"(?i)\b(bearer\s+)[^\s,;]+"), "secret"),
    (re.compile(r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,5}[A-Za-z]{2,24}\b"), "address"),
    (re.compile(r"(?i)(?<![0-9a-f])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![0-9a-f])"), "address"),
    (re.compile(r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "id"),
    (re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){2,3}[0-9A-HJKMNP-TV-Z]{2,4}\b"), "code"),
]
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
# Dates, times and IPv4 addresses hold long numbers of their own and are told by their shape.
_KEPT: Final = re.compile(
    r"(?<![\d.-])\d{4}-[01]\d-[0-3]\d(?:[T ][0-2]\d:[0-5]\d(?::[0-6]\d)?(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)?(?![\d.-])"
    rf"|(?<![\d.-]){_OCTET}(?:\.{_OCTET}){{3}}(?![\d.-])"
)
_NUMBER: Final = re.compile(r"(?<![\w.])\+?\d(?:[ \-.()]{0,2}\d){5,30}(?![\w])|\d{6,}")
_RUN: Final = re.compile(r"[A-Za-z0-9+=_%$*-]{16,}")
_KINDS: Final = (re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]"))


def redact(text: str) -> str:
    """The text without what might be anybody's secret or anybody's number."""
    for pattern, kind in _RULES:
        text = pattern.sub((r"\1" if pattern.groups else "") + MARK.format(kind), text)
    return "".join(part if _KEPT.fullmatch(part) else _RUN.sub(_run, _NUMBER.sub(MARK.format("number"), part)) for part in _split(text))


def _split(text: str) -> list[str]:
    """The text in pieces, what is kept apart from the rest."""
    pieces, at = [], 0
    for found in _KEPT.finditer(text):
        pieces += [text[at : found.start()], found.group()]
        at = found.end()
    return [*pieces, text[at:]]


def _run(found: "re.Match[str]") -> str:
    run = found.group()
    mixed = sum(bool(kind.search(run)) for kind in _KINDS) > 1 and bool(_KINDS[2].search(run))
    return MARK.format("token") if mixed and not _is_wordlike(run) else run


def _is_wordlike(run: str) -> bool:
    """Joined words with short numbers between them, such as `usb-SCANNER-if00-port0` or `store-scanner_2`."""
    few = sum(letter.isdigit() for letter in run) <= MAX_DIGITS
    return few and all(re.fullmatch(r"[A-Za-z]{0,16}\d{0,3}", part) for part in re.split(r"[-_=+%$*]", run))
