"""Numbers as a reader sees them."""

import math

import pytest

from dpaudit.page.formats import ABSENT, STYLES, show


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.29, "two_down", "0.29"),  # 0.29 * 100 is 28.999999999999996
        (0.2999, "two_down", "0.29"),
        (0.2901, "two_up", "0.30"),
        (1.0, "two_up", "1.00"),
        (-0.001, "signed_three_down", "−0.001"),
        (0.0, "signed_three", "0.000"),
        (0.05, "signed_points", "+5.0"),
        (-0.0411, "signed_points_down", "−4.2"),
        (8.0, "epsilon", "8"),
        ("inf", "epsilon", "∞"),
        (0.5, "epsilon", "0.5"),
        ("inf", "three_up", "∞"),
        (1e-5, "delta", "1e−5"),
        (2.5e-7, "delta", "2.5e−7"),
        (0.128, "number", "0.128"),
        (1234567, "count", "1,234,567"),
        (0.95, "percent", "95 %"),
        (0.16277, "percent_up", "16.3 %"),
        (0.16277, "percent_down", "16.2 %"),
        (1e-9, "p", "< 0.001"),
        (0.0301, "p", "0.030"),
        (9.04, "duration", "9.0 s"),
        (59.8, "duration", "60 s"),
        (200.4, "duration", "3 min 20 s"),
        (7260, "duration", "2 h 01 min"),
        (("a", "b"), "text", "a, b"),
        (None, "three", ABSENT),
        (math.nan, "three", ABSENT),
    ],
)
def test_a_number_is_written_as_its_style_says(value: object, style: str, text: str) -> None:
    assert show(value, style) == text


def test_rounding_never_claims_more_than_was_found() -> None:
    for value in (0.0, 0.004, 0.005, 0.123456, 1.999, 3.47002):
        assert float(show(value, "two_down")) <= value <= float(show(value, "two_up"))


def test_an_unknown_style_is_an_error() -> None:
    with pytest.raises(KeyError):
        show(1.0, "twoo")


def test_every_style_writes_zero_and_one() -> None:
    assert all(show(value, style) for style in STYLES for value in (0, 1))
