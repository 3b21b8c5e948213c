"""Errors that a user can mend are one line."""

from dpaudit.errors import GuardError, PartialError, UsageError


def test_the_line_has_place_expectation_finding_and_remedy() -> None:
    error = UsageError("a.yaml: k", "in (0, 1]", "20", "write 0.2")
    assert str(error) == "a.yaml: k: expected in (0, 1], got 20; write 0.2"
    assert str(UsageError("a", "b", "c")) == "a: expected b, got c"


def test_exit_codes() -> None:
    assert (UsageError.exit_code, PartialError.exit_code, GuardError.exit_code) == (2, 3, 3)
