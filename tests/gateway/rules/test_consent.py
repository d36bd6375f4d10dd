"""What a member's last word comes to, and that no word of a text changes under the version that rows name."""

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Instant, MemberConsented, TimeTrust
from gateway.rules.consent import IN_FORCE, TEXTS, Consents, Standing, Word, standing, told_word

# Of each version's words. A changed word is a new version: rows of the old one name what people read then.
PINNED = {"bind-1": "42a9bf7019c47153"}


def said(given_: bool, at_us: int, trust: TimeTrust = TimeTrust.SYNCED) -> MemberConsented:
    return MemberConsented("m", "bind", given_, IN_FORCE, "code", None, "counter", None, Instant(at_us, 1, "b", trust))


def test_every_version_has_the_words_it_had() -> None:
    found = {version: hashlib.sha256(msgspec.json.encode(text)).hexdigest()[:16] for version, text in TEXTS.items()}
    assert found == PINNED
    assert IN_FORCE in TEXTS
    assert all(getattr(text, name).zh and getattr(text, name).en for text in TEXTS.values() for name in text.__struct_fields__)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**50))), st.none() | st.tuples(st.booleans(), st.integers(0, 2**50)))
def test_the_later_of_the_shops_and_headquarters_word_counts_and_of_one_moment_the_withdrawal(
    here: list[tuple[bool, int]], told: tuple[bool, int] | None
) -> None:
    consents = Consents()
    for given_, at_us in here:
        consents.fold(said(given_, at_us))
    word = None if told is None else Word(*told)
    last = consents.last("m", word)
    known = [*here[-1:], *([told] if told else [])]
    if not known:
        assert standing(last) is Standing.UNSAID
    else:
        latest = max(at_us for _, at_us in known)
        agrees = all(given_ for given_, at_us in known if at_us == latest)
        assert standing(last) is (Standing.GIVEN if agrees else Standing.WITHDRAWN)


def test_a_clock_that_is_not_believed_withdraws_for_certain_and_gives_nothing_against_headquarters() -> None:
    consents = Consents()
    consents.fold(said(False, 5, TimeTrust.UNTRUSTED))
    assert standing(consents.last("m", Word(True, 10**15))) is Standing.WITHDRAWN
    consents.fold(said(True, 10**15, TimeTrust.UNTRUSTED))
    assert standing(consents.last("m", Word(False, 5))) is Standing.WITHDRAWN
    assert standing(consents.last("m", None)) is Standing.GIVEN


def test_what_headquarters_held_before_it_kept_times_is_a_consent_of_long_ago() -> None:
    assert standing(told_word(["bind"], [])) is Standing.GIVEN
    assert standing(told_word([], [("bind", False, 7)])) is Standing.WITHDRAWN
    assert standing(told_word(["beacon"], [("beacon", True, 7)])) is Standing.UNSAID
