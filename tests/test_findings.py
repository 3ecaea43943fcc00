"""The registry of the doctor's checks."""

from __future__ import annotations

import pytest

from kmde_fw import doctor
from kmde_fw.errors import EngineError
from kmde_fw.findings import Checks, Finding
from kmde_fw.workflows import health


def test_checks_say_what_they_find_under_their_names():
    checks: Checks[int] = Checks()

    @checks.enter("even")
    def even(number):
        if number % 2:
            yield Finding("problem", f"{number} is odd", "add 1")

    @checks.enter("small")
    def small(number):
        if number > 9:
            raise EngineError(f"{number} is too large")
        yield Finding("ok", "small")

    assert list(checks) == ["even", "small"]
    assert checks.examine(4) == [Finding("ok", "small", check="small")]
    found = [(finding.check, finding.state, finding.text, finding.mend) for finding in checks.examine(11)]
    assert found == [("even", "problem", "11 is odd", "add 1"), ("small", "problem", "11 is too large", "")]


def test_no_two_checks_have_one_name():
    checks: Checks[int] = Checks()
    checks.enter("a")(lambda _: iter(()))
    with pytest.raises(ValueError, match="two checks are called 'a'"):
        checks.enter("a")
    assert not set(doctor.CHECKS) & set(health.CHECKS), "`kmde doctor NAME` shows both"
