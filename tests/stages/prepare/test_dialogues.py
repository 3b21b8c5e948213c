"""Rows that a chat template does not take: refused by number before a run exists; and what encoding leaves
out is told.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import chat_templates
import pytest
from rich.console import Console

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.pipeline import sequence
from dpaudit.stages.prepare import dialogues, prepare
from dpaudit.stages.train import forecast, training_set
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
Messages = list[dict[str, str]]


@pytest.fixture
def model_with(toy_model_dir: Path, tmp_path: Path) -> Callable[[str], Path]:
    def made(template: str) -> Path:
        folder = tmp_path / "models" / "other"
        shutil.copytree(toy_model_dir, folder)
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        return folder

    return made


@pytest.fixture
def data_of(tmp_path: Path) -> Callable[[Callable[[int], Messages]], Path]:
    def made(row: Callable[[int], Messages]) -> Path:
        file = tmp_path / "rows.jsonl"
        lines = (json.dumps({"messages": row(number)}) + "\n" for number in range(60))
        file.write_text("".join(lines), encoding="utf-8")
        return file

    return made


def asked(number: int) -> Messages:
    return [{"role": "user", "content": f"hi {number}"}, {"role": "assistant", "content": f"answer {number}"}]


def opened(number: int) -> Messages:
    return [{"role": "assistant", "content": "Hello, how can I help?"}, *asked(number)]


def told(number: int) -> Messages:
    return [{"role": "system", "content": "You are a nurse."}, *asked(number)]


def plan_of(model: Path, data: Path, **changes: Any) -> Plan:
    return Plan(
        loading.load(
            "small",
            {
                "model.base": str(model),
                "data.source": str(data),
                "grid.dpo": [],
                "data.heldout": 5,
                "candidates.canaries": 100,
                "candidates.records": 10,
                "candidates.extraction": 0,
                "candidates.gradient": 0,
                **changes,
            },
        ),
        0,
        0,
    )


def loaded(plan: Plan, runs: Path) -> tuple[RunDir, "training_set.TrainingSet", list[str]]:
    run_dir, lines = run_store.open_or_create(plan.to_json(), "small", runs), list[str]()
    prepare.run(run_dir, plan, QUIET)
    return run_dir, training_set.load(run_dir, plan, "sft", say=lines.append), lines


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        (opened, "in 60 of 60 rows"),
        (lambda n: asked(n)[1:], "in 60 of 60 rows"),
        (lambda n: asked(n) if n != 41 else opened(n), "speaks"),
        (lambda n: asked(n) if n < 50 else [asked(n)[0], *asked(n)], "in 10 of 60 rows"),
    ],
)
def test_rows_that_a_template_refuses_are_told_together_and_leave_no_run(
    row: Callable[[int], Messages],
    rows: str,
    model_with: Callable[[str], Path],
    data_of: Callable[[Callable[[int], Messages]], Path],
    tmp_path: Path,
) -> None:
    strict = chat_templates.STRICT.replace("Conversation roles", "It speaks in turns: conversation roles")
    plan = plan_of(model_with(strict), data_of(row))
    with pytest.raises(UsageError, match="It speaks in turns") as found:
        sequence.train(plan, tmp_path / "runs", QUIET)
    first = next(number for number in range(60) if row(number) != asked(number))
    assert str(found.value).startswith(f"{tmp_path / 'rows.jsonl'}:{first + 1}: expected turns that")
    assert rows in str(found.value) and f"answer {first}" not in str(found.value)
    assert not (tmp_path / "runs").exists()


def test_such_rows_are_learned_where_the_template_takes_them(
    toy_model_dir: Path, data_of: Callable[[Callable[[int], Messages]], Path], tmp_path: Path
) -> None:
    from dpaudit.models import tokenizers

    _, found, lines = loaded(plan_of(toy_model_dir, data_of(opened)), tmp_path / "runs")
    tokenizer = tokenizers.load_tokenizer(str(toy_model_dir))
    learned = [one for unit in found.units for example in unit for one in example.sequences]
    text = [
        tokenizer.decode(
            [t for t, flag in zip(one.input_ids, one.answer_mask, strict=True) if flag],
            skip_special_tokens=False,
        )
        for one in learned
    ]
    assert sum(said.startswith("Hello, how can I help?<|end|>answer ") for said in text) > 30
    assert lines == []


def test_system_text_is_folded_and_told(
    model_with: Callable[[str], Path],
    data_of: Callable[[Callable[[int], Messages]], Path],
    tmp_path: Path,
) -> None:
    plan = plan_of(model_with(chat_templates.STRICT), data_of(told))
    _, found, lines = loaded(plan, tmp_path / "runs")
    [line] = lines
    assert line.startswith(
        "training sft: system text stands before the first question, because the chat template has no place "
        "for it, in "
    )
    assert f"of {sum(len(unit) for unit in found.units)} rows" in line


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}", "chat template: expected a Jinja template"),
        (
            "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
            "chat template: expected a template that ends",
        ),
        ("{{ nothing.of.that }}", "UndefinedError, in 60 of 60 rows"),
        ("hello", "left out, in 60 of 60 rows"),
    ],
)
def test_a_template_that_cannot_work_leaves_no_run(
    template: str,
    message: str,
    model_with: Callable[[str], Path],
    data_of: Callable[[Callable[[int], Messages]], Path],
    tmp_path: Path,
) -> None:
    plan = plan_of(model_with(template), data_of(asked))
    with pytest.raises(UsageError, match=message):
        sequence.train(plan, tmp_path / "runs", QUIET)
    with pytest.raises(UsageError, match=message):
        forecast.rows(plan, QUIET)
    assert not (tmp_path / "runs").exists()


def test_pairs_are_checked_with_both_answers(toy_model_dir: Path) -> None:
    from dpaudit.models import tokenizers

    tokenizer = tokenizers.load_tokenizer(str(toy_model_dir))
    tokenizer.chat_template = (
        "{% for m in messages %}{% if 'No' in m.content %}{{ raise_exception('It says no') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    turns = (Turn("user", "Why?"),)
    pairs = [(3, Record("a", turns, None, "Yes.", "Yes!")), (4, Record("b", turns, None, "Yes.", "No."))]
    passed = []
    with pytest.raises(UsageError, match=r"p\.jsonl:4: .* got its error It says no; "):
        for pair in dialogues.checked(pairs, "p.jsonl", tokenizer):
            passed.append(pair)
    assert passed == pairs
    assert list(dialogues.checked(pairs[:1], "p.jsonl", tokenizer)) == pairs[:1]
    text = [(1, Record("t", (), text="No."))]
    assert list(dialogues.checked(text, "t.jsonl", tokenizer)) == text


# ---- what is cut


def test_what_max_length_cuts_is_told_once_and_before_training(toy_model_dir: Path, tmp_path: Path) -> None:
    wide = {"data.source": "builtin:clinic", "data.patients": 40, "model.max_length": 40}
    plan = plan_of(toy_model_dir, tmp_path, **wide)
    run_dir, found, lines = loaded(plan, tmp_path / "runs")
    sequences = [one for unit in found.units for example in unit for one in example.sequences]
    cut, without = sum(one.truncated for one in sequences), sum(not any(one.answer_mask) for one in sequences)
    assert 0 < without < cut
    [line] = lines
    start = (
        f"warning: training sft: {cut} of {len(sequences)} rows are longer than model.max_length 40 tokens "
        f"and are cut: the answers' end, "
    )
    assert line.startswith(start) and line.endswith(f"is not learned; of {without} rows a whole answer")
    whole = replace(plan, suite=replace(plan.suite, model=replace(plan.suite.model, max_length=250)))
    every = [
        one
        for unit in loaded(whole, tmp_path / "whole")[1].units
        for example in unit
        for one in example.sequences
    ]
    tokens, kept = (sum(sum(one.answer_mask) for one in rows) for rows in (every, sequences))
    assert f"the answers' end, {1 - kept / tokens:.1%} of their tokens" in line
    assert run_dir.path.exists()


def test_nothing_is_told_where_nothing_is_cut(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = plan_of(
        toy_model_dir,
        tmp_path,
        **{"data.source": "builtin:clinic", "data.patients": 40, "model.max_length": 250},
    )
    assert loaded(plan, tmp_path / "runs")[2] == []


@pytest.mark.slow
def test_arms_side_by_side_tell_it_once(toy_model_dir: Path, tmp_path: Path) -> None:
    changes = {
        "data.source": "builtin:clinic",
        "data.patients": 40,
        "model.max_length": 40,
        "grid.baseline": False,
        "training.private": {"batch": 8, "steps": 2, "learning_rate": 0.01},
    }
    plan = plan_of(toy_model_dir, tmp_path, **changes)
    heard = StringIO()
    sequence.train(plan, tmp_path / "runs", Progress(console=Console(file=heard, width=300)), workers=2)
    assert heard.getvalue().count("longer than model.max_length 40 tokens") == 1


def test_a_forecast_tells_what_will_be_cut(toy_model_dir: Path, tmp_path: Path) -> None:
    """Exactly: where all rows are trained on, training cuts as many."""
    changes = {
        "data.source": "builtin:clinic",
        "data.patients": 60,
        "model.max_length": 60,
        "candidates.canaries": 0,
        "candidates.records": 0,
    }
    plan, heard = plan_of(toy_model_dir, tmp_path, **changes), StringIO()
    run_dir, data, lines = loaded(plan, tmp_path / "runs")
    found = forecast.of(plan, run_dir, Progress(console=Console(file=heard, width=300)))
    tally = found.learned["sft"].tally
    assert tally is not None and found.learned["sft"].rows == tally.rows
    assert 0 < tally.cut == data.truncated < tally.rows
    data.units.close()
    (line,) = [line for line in lines if "longer than model.max_length 60 tokens" in line]
    assert line.replace("training ", "") in heard.getvalue()
