"""Chat templates as other people's programs: they end, their errors are one line, and no dialogue is in
it.
"""

import time
from typing import Any

import pytest

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import templates
from dpaudit.models.dialogue import render

TURNS = (Turn("user", "My secret question"), Turn("assistant", "My secret answer"))


@pytest.fixture(scope="module")
def toy(toy_model_dir: Any) -> Any:
    from dpaudit.models import tokenizers

    return tokenizers.load_tokenizer(str(toy_model_dir))


ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "loops over constants": "{% for a in [1,2,3,4,5,6,7,8] %}" * 8 + "{% endfor %}" * 8,
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "a text that doubles": "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s "
    "%}{% endfor %}",
    "a text that doubles, added": "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s "
    "+ ns.s %}{% endfor %}",
    "a long text": "{{ 'x' * 99999999999 }}",
    "a large number": "{{ 9 ** 999999999 }}",
    "much text": "{% for i in range(9999) %}" + "word " * 99 + "{% endfor %}",
}


@pytest.mark.parametrize("how", ENDLESS)
def test_a_template_without_an_end_is_stopped(toy: Any, how: str) -> None:
    toy.chat_template = ENDLESS[how]
    began = time.perf_counter()
    with pytest.raises(UsageError, match=r"toy: chat template: expected a template that ends"):
        render(TURNS, toy)
    assert time.perf_counter() - began < 10


def test_a_long_dialogue_is_not_endless(toy: Any) -> None:
    toy.chat_template = (
        "{% for m in messages %}{% for n in messages %}{% endfor %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    long = tuple(Turn("user" if i % 2 else "assistant", f"{i} " * 2000) for i in range(400))
    assert len(render(long, toy)) > 1_500_000


UNFIT = {
    "syntax": ("{% for m in messages %}", "Unexpected end of template"),
    "unknown filter": ("{{ messages | nothing_of_that_name }}", "No filter named"),
    "unknown tag": ("{% include_all %}", "unknown tag"),
    "empty": (" ", "an empty template"),
    "no default among several": ({"rag": "x", "tool_use": "y"}, "rag, tool_use"),
    "an empty list": ({}, "got no template"),
    "deep": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, "expected a Jinja template"),
}


@pytest.mark.parametrize("how", UNFIT)
def test_a_template_that_cannot_work_is_named(toy: Any, how: str) -> None:
    toy.chat_template, told = UNFIT[how]
    with pytest.raises(UsageError, match="toy: chat template: ") as found:
        render(TURNS, toy)
    assert told in str(found.value) and not isinstance(found.value, templates.Refused)
    assert len(str(found.value)) < 500 and "\n" not in str(found.value)


RAISING = {
    "its own words": ("{{ raise_exception('Only the user speaks') }}", "Only the user speaks"),
    "words of the dialogue": ("{{ raise_exception(messages[0].content) }}", "TemplateError"),
    "both": ("{{ raise_exception('No ' + messages[0].content) }}", "TemplateError"),
    "undefined": ("{{ nothing.of.that }}", "UndefinedError"),
    "types": ("{{ messages[0].content + 1 }}", "TypeError"),
    "zero": ("{{ 1 / 0 }}", "ZeroDivisionError"),
    "python": ("{{ messages.__class__.__base__.__subclasses__() }}", "Error"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "files": ("{% include '/etc/passwd' %}", "TypeError"),
    "change": ("{{ messages.append(1) }}", "SecurityError"),
}


@pytest.mark.parametrize("how", RAISING)
def test_an_error_of_a_template_tells_no_dialogue(toy: Any, how: str) -> None:
    toy.chat_template, told = RAISING[how]
    with pytest.raises(templates.Refused) as found:
        render(TURNS, toy)
    assert told in str(found.value) and "secret" not in str(found.value)


def test_a_template_knows_one_day(toy: Any) -> None:
    """Training and attack may run on two days; the text is the same."""
    toy.chat_template = "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}"
    assert render(TURNS, toy) == "2025-01-01 00:00:00"


def test_generated_parts_are_written_as_others(toy: Any) -> None:
    toy.chat_template = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %};{% endfor %}"
    )
    assert render(TURNS, toy) == "My secret question;My secret answer;"
