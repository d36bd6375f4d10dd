"""Every decision has its words, in both languages, and every answer comes back from its bytes."""

import re
from pathlib import Path

import pytest

from gateway.rules import answers
from gateway.rules.answers import Answer, Before
from gateway.rules.reasons import DECISIONS, REASONS

CJK = re.compile(r"[\u4e00-\u9fff]")
GATEWAY = Path(answers.__file__).parents[1]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_says_what_and_what_next_in_both_languages(reason: str) -> None:
    words = REASONS[reason]
    for text in (words.text, words.next_step):
        assert CJK.search(text.zh), text
        assert text.en.isascii() and text.en, text


@pytest.mark.parametrize("name", DECISIONS)
def test_every_decision_is_said_in_both_languages(name: str) -> None:
    assert CJK.search(DECISIONS[name].zh)
    assert DECISIONS[name].en


def test_a_refusal_carries_its_words_and_is_no_success() -> None:
    refused = answers.refusal("expired", 5, reference="r", before=Before(1, "counter", "scanner@counter", None))
    assert not refused.ok
    assert (refused.message, refused.next_step) == (REASONS["expired"].text, REASONS["expired"].next_step)


def test_a_decision_carries_its_words_and_is_one() -> None:
    staged = answers.decision("staged", 5, reference="r", compartment=3)
    assert staged.ok
    assert (staged.message, staged.compartment) == (DECISIONS["staged"], 3)


@pytest.mark.parametrize("answer", [answers.refusal(reason, 5) for reason in REASONS] + [answers.decision(name, 5) for name in DECISIONS])
def test_an_answer_comes_back_from_its_bytes(answer: Answer) -> None:
    assert answers.decode(answers.encode(answer)) == answer


def test_a_reason_nobody_has_words_for_cannot_be_given() -> None:
    with pytest.raises(KeyError):
        answers.refusal("undreamt_of", 5)
    with pytest.raises(KeyError):
        answers.decision("undreamt_of", 5)


def test_every_reason_the_rules_and_core_give_has_words() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for folder in ("rules", "core") for path in sorted((GATEWAY / folder).glob("*.py")))
    given = set(re.findall(r'(?:return|refuse\(|refusal\(|refused = |else) "([a-z_]+)"', texts))
    assert {"already_redeemed", "expired", "other_store"} <= given
    assert given <= set(REASONS) | set(DECISIONS) | {"paid", "cancelled", "staged", "open_code", "store_bound"}
