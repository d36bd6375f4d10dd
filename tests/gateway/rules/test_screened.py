"""Which redemptions wait to be seen, and which till codes to be taken."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import (
    Instant,
    RedemptionReversed,
    ResultShown,
    TillCodeRung,
    TimeTrust,
    UnseenHonoured,
    VoucherRedeemed,
)
from gateway.rules.screened import CODE_DIGITS, MOST_WAITING, Screened, TillCodes, Unseen, needs_screen, till_code

AT = Instant(1_795_312_812_250_000, 1, "boot", TimeTrust.SYNCED)


def is_till(device: str | None) -> bool:
    return device == "d-till"


def use(name: str, voucher: str = "v", station: str = "counter", device: str | None = None, held: str | None = None) -> VoucherRedeemed:
    return VoucherRedeemed(name, voucher, 1, 1, station, f"scanner@{station}", None, 1, AT, 1, 0, held, device)


def shown(name: str) -> ResultShown:
    return ResultShown(name, "v", "counter", None, "d-screen", AT)


def honoured(name: str) -> UnseenHonoured:
    return UnseenHonoured(name, "v", 1, 1, 1, 0, "staff", "s-1", None, "power_cut", AT)


def back(name: str) -> RedemptionReversed:
    return RedemptionReversed(name, "v", 1, 1, 0, "counter", "s-1", None, AT)


def rung(name: str, code: str) -> TillCodeRung:
    return TillCodeRung(name, "v", code, "counter", "typed@counter", None, None, AT)


ENDS = st.sampled_from(["shown", "honoured", "reversed", "rung"])


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | ENDS), max_size=30))
def test_what_waits_is_what_no_page_no_person_no_till_and_no_reversal_has_ended(steps: list[tuple[int, str | None]]) -> None:
    book, waiting, used = Unseen(is_till), set[str](), set[str]()
    for number, end in steps:
        name = f"r{number}"
        if end is None and name not in used:  # a redemption happens once
            book.fold(use(name))
            waiting.add(name)
            used.add(name)
        elif end is not None:
            ended: dict[str, Screened] = {"shown": shown(name), "honoured": honoured(name), "reversed": back(name), "rung": rung(name, "x")}
            book.fold(ended[end])
            waiting.discard(name)
    assert {name for name in (f"r{n}" for n in range(5)) if book.get(name)} == waiting
    assert (book.of("v", "counter") is None) is not bool(waiting)
    assert book.of("v", "door") is None


def test_what_a_till_asked_for_needs_no_screen_in_one_step_or_two() -> None:
    assert not needs_screen(use("r", device="d-till"), is_till)
    assert not needs_screen(use("r", device="d-screen", held="a-1"), is_till)
    assert needs_screen(use("r", device="d-screen"), is_till)
    assert needs_screen(use("r"), is_till), "a scanner's code is told by the screen alone"


def test_a_shop_without_pages_does_not_fill_the_memory() -> None:
    book, codes = Unseen(is_till), TillCodes(is_till, "29")
    for number in range(MOST_WAITING + 10):
        book.fold(use(f"r{number}"))
        codes.fold(use(f"r{number}"))
    assert book.get("r9") is None
    assert book.get("r10") is not None
    assert codes.open(codes.of("r9")) is None
    assert codes.open(codes.of(f"r{MOST_WAITING + 9}")) is not None


@given(st.text(max_size=32), st.from_regex("[0-9]{2}", fullmatch=True))
def test_a_till_code_is_twelve_digits_and_known_again(name: str, prefix: str) -> None:
    code = till_code(name, prefix)
    assert len(code) == CODE_DIGITS
    assert code.startswith(prefix)
    assert TillCodes(is_till, prefix).is_ours(code)


@given(st.integers(0, 11), st.integers(1, 9), st.text(max_size=16))
def test_a_single_slip_in_a_typed_till_code_is_found(place: int, off: int, name: str) -> None:
    code, codes = till_code(name, "29"), TillCodes(is_till, "29")
    slipped = code[:place] + str((int(code[place]) + off) % 10) + code[place + 1 :]
    assert not codes.is_ours(slipped)


@given(st.text(max_size=20))
def test_any_text_is_ours_or_not(text: str) -> None:
    assert TillCodes(is_till, "29").is_ours(text) in (True, False)


def test_a_till_code_stands_for_its_redemption_until_a_till_has_taken_it() -> None:
    codes = TillCodes(is_till, "29")
    codes.fold(use("r1"))
    code = codes.of("r1")
    found = codes.open(code)
    assert found is not None
    assert found.redemption_id == "r1"
    assert codes.rung(code) is None
    codes.fold(rung("r1", code))
    assert codes.open(code) is None
    told = codes.rung(code)
    assert told is not None
    assert (told[0], told[1].at_us) == ("r1", AT.wall_us)


def test_a_reversed_redemption_is_rung_up_no_more() -> None:
    codes = TillCodes(is_till, "29")
    codes.fold(use("r1"))
    codes.fold(back("r1"))
    assert codes.open(codes.of("r1")) is None
