"""A privacy officer's questions have their answers at the top of the page, in words that are not folded."""

import re
from pathlib import Path

import fabricate
import pytest
import yaml

from dpaudit.findings.report import Report
from dpaudit.page.render import render
from dpaudit.stages import report

ASKED = yaml.safe_load((Path(__file__).with_name("officer.yaml")).read_text(encoding="utf-8"))
NEVER = r"\banonym|\bcompliant|\bcompliance|\bcertif(?:y|ied)|\bis safe\b"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    return report.assemble(report.Reading(run_dir), plan)


def blocks(html: str) -> dict[str, str]:
    """The text of what stands on the first screen and a half; what is folded is left out."""
    shown = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
    parts = {
        "release": shown.split('<section id="release">')[1].split("</section>")[0],
        "identity": shown.split('<section id="identity">')[1].split("</section>")[0],
        "evidence": shown.split('<section id="verdicts">')[1].split("</article>")[0],
    }
    order = [shown.index(f'<section id="{name}">') for name in ("release", "identity", "verdicts")]
    assert order == sorted(order) and '<section id="' not in shown[: order[0]]
    return {name: " ".join(re.sub(r"<[^>]+>", " ", part).split()) for name, part in parts.items()}


def unanswered(html: str) -> list[str]:
    found = blocks(html)
    return [
        row["question"]
        for row in ASKED
        if not all(re.search(said, found[row["block"]]) for said in row["says"])
    ]


def test_every_question_of_an_officer_is_answered_at_the_top(made: Report) -> None:
    assert len(ASKED) >= 10
    assert unanswered(render(made)) == []


def test_a_missing_answer_is_noticed(made: Report) -> None:
    """Each block is taken away in turn, and its questions are those that stay open."""
    html = render(made)
    for block, section in (("release", "release"), ("identity", "identity"), ("evidence", "verdicts")):
        start = html.index(f'<section id="{section}">') + len(f'<section id="{section}">')
        end = html.index("</article>" if block == "evidence" else "</section>", start)
        asked = [row["question"] for row in ASKED if row["block"] == block]
        assert unanswered(html[:start] + html[end:]) == asked
    folded = html.replace('<section id="release">', '<section id="release"><details>', 1)
    folded = folded.replace("</section>", "</details></section>", 1)
    assert len(unanswered(folded)) >= 5  # a folded answer is none


def test_what_was_not_looked_at_is_said_where_the_answer_would_stand(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    bare = report.assemble(report.Reading(run_dir), plan)
    told = blocks(render(bare) + "</article>")
    assert "sft-eps1 ? not established" in told["release"] and "its claim was not tested" in told["release"]
    assert "Not examined: membership of every adapter; secrets of every adapter" in told["release"]
    assert "Measured: attack" not in told["release"] and "Next: type dpaudit attack" in told["release"]
    assert "personal fields of real records" in told["release"]


def test_no_word_promises_what_a_page_cannot(made: Report) -> None:
    text = re.sub(r"<[^>]+>", " ", render(made).split("<body>")[1]).lower()
    assert re.findall(NEVER, text) == []
    assert re.findall(NEVER, "it is anonymous and compliant") == ["anonym", "compliant"]
