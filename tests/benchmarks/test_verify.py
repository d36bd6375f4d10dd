"""The benchmark of verifying verifies: every code it presents is good, and it is not the same code all the time."""

import pytest

from benchmarks import verify
from gateway import codes, verifiers


@pytest.mark.parametrize("name", list(verify.presented()))
def test_every_code_it_presents_is_good_and_another(name: str) -> None:
    payloads = verify.presented()[name]
    keys = verify.keyring()
    found = [codes.recognise(payload) for payload in payloads]
    assert {one.kind for one in found} == {codes.CodeKind(name)}
    assert len({verifiers.verify(one.text, keys, one.kind).terms.voucher_id for one in found}) == verify.FEW


def test_it_says_a_rate() -> None:
    assert verify.verify_per_s(0.05) > 500
    assert verify.signatures_per_s(0.05) > 500
