"""Worked examples never show the item itself, nor one that shares its passage."""

import logging
from pathlib import Path
from typing import Any

import pytest
from test_lm_tasks import HOW, LIKELIHOOD, lm, loaded  # noqa: F401

from dpaudit.errors import UsageError
from dpaudit.models import fewshot, harness


def rows(count: int, share: int = 1) -> list[dict]:
    return [
        {"id": f"q{n}", "question": f"Is {n} a fever?", "answer": f"word{n}", "patient": f"p{n // share}"}
        for n in range(count)
    ]


def prompts(task: Any, name: str) -> dict[str, str]:
    """Item -> its prompt with worked examples."""
    task.build_all_requests(limit=None)
    return {request.doc["id"]: request.args[0] for request in task.instances}


@pytest.mark.parametrize("share", [1, 2])
def test_neither_the_item_nor_one_of_its_passage_is_a_worked_example(share: int, tmp_path: Path) -> None:
    name, task = loaded(tmp_path, LIKELIHOOD, rows(6, share))
    fewshot.set_examples(name, task, 6 - share)  # all that there are
    for identity, prompt in prompts(task, name).items():
        number = int(identity[1:])
        shown = {n for n in range(6) if f"word{n}" in prompt}
        assert shown == {n for n in range(6) if n // share != number // share}


def test_the_count_of_those_that_there_are_is_told_and_lm_evals_warnings_are_not(
    lm: Any,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from dataclasses import replace

    name, task = loaded(tmp_path, LIKELIHOOD, rows(6, 2))
    with pytest.raises(UsageError, match=r"fewshot: expected at most 4, .* for every item, got 5"):
        fewshot.set_examples(name, task, 5)
    with caplog.at_level(logging.WARNING):
        found = harness.answer(lm, name, task, replace(HOW, fewshot=2))
    assert len(found.items) == 6 and "fewshot_split" not in caplog.text
