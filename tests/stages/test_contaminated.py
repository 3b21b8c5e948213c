"""Items that are too short to be looked for in the training text are counted, and told."""

import json
from pathlib import Path

import pytest

from dpaudit.findings.contamination import TaskContamination
from dpaudit.models import harness, item_texts
from dpaudit.stages import contaminated

SHORT = "What is edema?"
LONG = "Which drug comes first for a man of sixty with a dry cough?"


def read(folder: Path, name: str, rows: list[dict]) -> dict[str, item_texts.ItemTexts]:
    from dpaudit import content

    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n, row in enumerate(rows)))
    spec = {name: content.load_yaml(content.listing("suites/tasks")[name])}
    return item_texts.texts_of(harness.load_tasks(spec, {name: file}, folder / "cache")[name], None)


def test_the_template_of_a_task_makes_no_short_question_long(tmp_path: Path) -> None:
    """Choices and the words of the prompt stand in no training text."""
    from dpaudit.data.contamination import can_be_found

    choice = {"choices": ["swelling", "a much longer and wrong choice than the other"], "answer": 0}
    texts = read(tmp_path, "medqa_us_file", [choice | {"question": q} for q in (SHORT, LONG)])
    assert [can_be_found(said.own) for said in texts.values()] == [False, True]
    assert len(texts["0"].whole.split()) > 10


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (
            (20, 1, 19, 1),
            "warning: t: 1 of 1 items that could be looked for stand in the training text; 19 are too short",
        ),
        (
            (20, 0, 20, 0),
            "note: t: whether its items stand in the training text is not known: all 20 are too short",
        ),
        (
            (60, 60, 0, 0),
            "note: t: 0 of 60 items stand in the training text; what the base model was pretrained on was",
        ),
        (
            (74, 74, 0, 64),
            "warning: t: 64 of 74 items stand in the training text; their answers may have been read",
        ),
    ],
)
def test_the_terminal_says_what_was_found_and_what_was_not_looked_at(
    counts: tuple[int, int, int, int], said: str
) -> None:
    row = TaskContamination("t", *counts, (), ())
    lead = "warning" if row.found else "note"
    assert f"{lead}: {contaminated.said(row)}".startswith(said)
