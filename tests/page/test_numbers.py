"""Numbers reach a page by their place alone."""

import math

import pytest

from dpaudit.page.numbers import Numbers, join, look_up, placed, say


def test_a_number_carries_value_place_and_style() -> None:
    num = Numbers({"audits": [{"auc": 0.51234, "lower": 0.5, "upper": 0.6, "epsilon": "inf"}]})
    assert num("/audits/0/auc", "three") == (
        '<data value="0.51234" data-key="/audits/0/auc" data-style="three">0.512</data>'
    )
    assert ">∞</data>" in num("/audits/0/epsilon", "epsilon")
    limits = num.interval("/audits/0", "lower", "upper", "three")
    assert 'data-style="three_down">0.500<' in limits and 'data-style="three_up">0.600<' in limits


@pytest.mark.parametrize("pointer", ["/a/b", "/list/7", "/list/x", "/text/0/1"])
def test_a_pointer_to_nothing_is_an_error(pointer: str) -> None:
    with pytest.raises(KeyError, match=pointer):
        look_up({"a": {}, "list": [1], "text": "t"}, pointer)


def test_a_pointer_holds_any_key() -> None:
    pointer = join("/tasks", "mmlu/anatomy~1", 0)
    assert look_up({"tasks": {"mmlu/anatomy~1": [5]}}, pointer) == 5


def test_a_sentence_escapes_what_is_no_markup() -> None:
    num = Numbers({"a": math.pi})
    assert say("<b>{name}</b> {a}", name="<i>&", a=num("/a", "two")) == (
        '<b>&lt;i&gt;&amp;</b> <data value="3.141592653589793" data-key="/a" data-style="two">3.14</data>'
    )


def test_parts_know_their_places() -> None:
    assert placed("/a", ("x", "y")) == [("/a/0", "x"), ("/a/1", "y")]
