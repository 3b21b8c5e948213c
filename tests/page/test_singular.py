"""One of a thing is told in the singular, on the page and on the terminal."""

import re
from dataclasses import replace
from pathlib import Path

import fabricate
import pytest

from dpaudit.findings.counted import many
from dpaudit.page.render import render
from dpaudit.page.singular import NOUNS, singular
from dpaudit.stages import report


@pytest.mark.parametrize(
    ("html", "told"),
    [
        ("<data>1</data> prompts", "<data>1</data> prompt"),
        ("<data>1</data> judged prompts of", "<data>1</data> judged prompt of"),
        ("<data>1</data> canaries along", "<data>1</data> canary along"),
        ("<data>21</data> prompts", "<data>21</data> prompts"),
        ("<data>0.1</data> prompts", "<data>0.1</data> prompts"),
        ("<data>1</data> of <data>3</data> prompts", "<data>1</data> of <data>3</data> prompts"),
        ("<data>1</data> promptsheets", "<data>1</data> promptsheets"),
    ],
)
def test_a_noun_behind_a_one_is_one(html: str, told: str) -> None:
    assert singular(html) == told


def test_no_page_says_one_of_several(tmp_path: Path) -> None:
    made = report.present(*fabricate.run(tmp_path))
    data = replace(made.identity.data, records=1, heldout=1, units=1, canaries=1)
    html = render(replace(made, identity=replace(made.identity, data=data)))
    assert ">1</data> dialogue<" in html and not re.search(rf">1</data> ({NOUNS})\b", html)


def test_a_count_has_its_noun() -> None:
    assert [many(count, "prompt") for count in (0, 1, 2000)] == ["0 prompts", "1 prompt", "2,000 prompts"]
