"""The order of the page, what is folded, and what a screen reader needs."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import fabricate
import pytest

from dpaudit.findings.report import Report
from dpaudit.page.render import render
from dpaudit.stages import report

ORDER = (
    *("release", "identity", "verdicts", "tradeoff", "attack", "extraction", "quality", "judge", "training"),
    *("internal", "limits", "crosswalk", "terms"),
)
MOST = 1_000_000  # bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    return report.assemble(report.Reading(run_dir), plan)


@pytest.fixture(scope="module")
def html(made: Report) -> str:
    return render(made)


def unfolded(html: str) -> str:
    return re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)


class Faults(HTMLParser):
    """What a reader without eyes, colours or a mouse would miss."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.regions: list[str | None] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html" and not given.get("lang"):
            self.found.append("no language")
        if tag == "th" and "scope" not in given:
            self.found.append("th without scope")
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-labelledby")):
            self.found.append("svg without words")
        if tag == "table" and "scroll" not in self.open[-1]:
            self.found.append("table that cannot scroll")
        if "scroll" in (given.get("class") or ""):
            self.regions.append(given.get("aria-label"))
            if given.get("tabindex") != "0" or given.get("role") != "region":
                self.found.append("region out of reach")
        if tag not in ("meta", "br"):
            self.open.append(given.get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()


def faults(html: str) -> list[str]:
    seen = Faults()
    seen.feed(html)
    return [*seen.found, *("unnamed" for region in seen.regions if not region), *_twice(seen.regions)]


def _twice(names: list[str | None]) -> Iterator[str]:
    yield from (f"twice: {name}" for name in set(names) if names.count(name) > 1)


def test_the_sections_stand_in_their_order_and_are_linked_in_it(html: str) -> None:
    ids = re.findall(r'<section id="(\w+)"', html)
    assert [name for name in ids if name in ORDER] == list(ORDER)
    nav = html.split("<nav")[1].split("</nav>")[0]
    assert re.findall(r'href="#(\w+)"', nav) == list(ORDER)
    assert html.index("judge's passport</h3>") < html.index("<h3>Win rates</h3>")


def test_what_is_secondary_is_folded_and_open_on_paper(html: str) -> None:
    assert html.count("<details>") > 20 and "<details open" not in html
    assert html.count("<details>") == html.count("<summary>")
    paper = html.split("@media print")[1]
    assert "details::details-content { content-visibility: visible" in paper
    assert len(unfolded(html)) < 0.7 * len(html) and len(html.encode()) < MOST


def test_a_warning_is_never_folded(made: Report) -> None:
    broken = replace(fabricate.BLIND, alarm=True)
    audits = tuple(
        replace(audit, blind=broken, records=replace(audit.records, blind=broken) if audit.records else None)
        for audit in made.audits
    )
    pii = tuple(replace(found, blind=broken) for found in made.pii)
    secrets = tuple(replace(found, blind=broken) for found in made.extraction)
    html = render(replace(made, audits=audits, pii=pii, extraction=secrets))
    assert html.count('class="banner"') == unfolded(html).count('class="banner"') >= 4


def test_a_screen_reader_finds_words_for_every_table_and_figure(html: str) -> None:
    assert faults(html) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (' lang="en"', "", "no language"),
        ('<th scope="row">', "<th>", "th without scope"),
        (' role="img"', "", "svg without words"),
        (' tabindex="0"', "", "region out of reach"),
        ('aria-label="Training"', 'aria-label="Extraction"', "twice: Extraction"),
        (
            '<div class="scroll" role="region" tabindex="0" aria-label="Training">',
            "<div>",
            "table that cannot",
        ),
    ],
)
def test_each_fault_is_noticed(html: str, old: str, new: str, fault: str) -> None:
    assert old in html
    assert [found for found in faults(html.replace(old, new, 1)) if fault in found]


def test_words_and_shapes_say_what_colours_say(html: str) -> None:
    for css in (Path(__file__).parents[2] / "reports" / "page.css",):
        assert "focus-visible" in css.read_text(encoding="utf-8")
    cards = html.split('<section id="release">')[1].split("</section>")[0]
    words = re.findall(r'<span class="word">(.) (.*?)</span>', cards)
    assert len(words) == 5 and {mark for mark, _ in words} <= set("✓✗?")
    chart = re.search(r'<svg[^>]*aria-labelledby="tradeoff0-title.*?</svg>', html, re.DOTALL)
    assert chart and "<circle" in chart[0] and 'class="dot rung1 method1"' in chart[0]  # a shape for a method
