"""What of a sale is left: never more comes back than was sold and paid, in whatever pieces, and the books rebuild from the rows."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Instant, ReturnedLine, SalePosted, SaleReturned, SoldLine, TimeTrust
from gateway.rules import returned
from gateway.rules.returned import Goods, SaleLeft, after, refusal

NOW = Instant(1, 1, "b", TimeTrust.SYNCED)
LINES = st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, 5), st.integers(0, 1000)), min_size=1, max_size=4)
BACK = st.lists(
    st.builds(ReturnedLine, st.integers(-1, 5), st.sampled_from("AB"), st.integers(1, 6), st.integers(0, 1200)), min_size=1, max_size=3
)


def sale(number: int, lines: list[tuple[str, int, int]], till: str = "d", receipt: str = "") -> SalePosted:
    sold = [SoldLine(*line) for line in lines]
    return SalePosted(f"{number:016x}", receipt or f"R{number}", "counter", till, None, "TWD", sold, [], None, None, NOW)


def back(number: int, sale_id: str, lines: list[ReturnedLine], till: str = "d") -> SaleReturned:
    return SaleReturned(f"b{number}", sale_id, "R", f"S{number}", "counter", till, None, "TWD", lines, False, [], [], NOW)


@given(LINES, st.lists(BACK, max_size=8))
def test_in_whatever_pieces_no_more_comes_back_than_was_sold_and_paid(
    lines: list[tuple[str, int, int]], asked: list[list[ReturnedLine]]
) -> None:
    goods = Goods()
    goods.fold(sale(1, lines))
    pieces, paid = [0] * len(lines), [0] * len(lines)
    for number, one in enumerate(asked):
        left = goods.find(f"{1:016x}", None, "")
        assert left is not None
        if refusal(left, one) is None:
            goods.fold(back(number, left.sale_id, one))
            for line in one:
                pieces[line.line - 1] += line.quantity
                paid[line.line - 1] += line.price_minor
    for (_, quantity, price), came, given_back in zip(lines, pieces, paid, strict=True):
        assert came <= quantity and given_back <= price
    left = goods.find(f"{1:016x}", None, "")
    assert left is not None and left.is_empty == all(came == line[1] for came, line in zip(pieces, lines, strict=True))


def test_a_part_brings_back_its_share_at_most_and_the_last_piece_what_is_left() -> None:
    left = SaleLeft("s", "R", "d", "TWD", [("A", 3, 100)], [], None)
    one = ReturnedLine(1, "A", 1, 34)
    assert refusal(left, [one]) is None
    assert refusal(left, [ReturnedLine(1, "A", 1, 35)]) == "return_too_much"
    rest = after(left, [one])
    assert refusal(rest, [ReturnedLine(1, "A", 2, 66)]) is None
    assert refusal(rest, [ReturnedLine(1, "A", 3, 1)]) == "return_too_much"
    for wrong in ([ReturnedLine(2, "A", 1, 0)], [ReturnedLine(1, "B", 1, 0)], [one, one]):
        assert refusal(left, wrong) == "return_not_sold"


def test_a_receipt_is_the_tills_own_else_the_only_one_there_is() -> None:
    goods = Goods()
    for number, till in enumerate(("a", "b"), 1):
        goods.fold(sale(number, [("A", 1, 1)], till, "R7"))
    found = [goods.find(None, "R7", till) for till in ("a", "b", "c")]
    assert [one.sale_id if one else None for one in found] == [f"{1:016x}", f"{2:016x}", None]
    assert goods.find(None, "R8", "a") is None


def test_only_the_newest_sales_are_known_and_older_ones_are_not_guessed() -> None:
    goods = Goods()
    for number in range(returned.MOST_SALES + 2):
        goods.fold(sale(number, [("A", 1, 1)]))
    assert goods.find(f"{1:016x}", None, "") is None and goods.find(None, "R1", "d") is None
    assert goods.find(f"{2:016x}", None, "") is not None
    goods.fold(back(1, f"{1:016x}", [ReturnedLine(1, "A", 1, 1)]))  # a row of the past about one that is forgotten
    assert goods.refunded("d", "S1") == "b1"
