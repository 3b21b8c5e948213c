"""The gate before a run directory exists: what cannot work is told in one go, and nothing is left behind."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_templates
import pytest

from dpaudit.errors import Gathering, Mistakes, UsageError
from dpaudit.pipeline import gate, needs, sequence
from dpaudit.stages.prepare.corpus import load_corpus
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan
from dpaudit.system import egress
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
CASES = Path(__file__).parents[3] / "shared" / "cases"
ROWS = 60
STEPS = {"batch": 8, "steps": 2, "learning_rate": 0.02}
Messages = list[dict[str, str]]


def asked(number: int) -> Messages:
    return [{"role": "user", "content": f"hi {number}"}, {"role": "assistant", "content": f"answer {number}"}]


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty dialogues of fifteen patients."""
    return write(
        tmp_path / "rows.jsonl", *({"messages": asked(n), "patient_id": n // 4} for n in range(ROWS))
    )


@pytest.fixture
def strict_model(toy_model_dir: Path, tmp_path: Path) -> Path:
    """Whose chat template wants turns in strict order and none of the system."""
    folder = tmp_path / "models" / "strict"
    shutil.copytree(toy_model_dir, folder)
    (folder / "chat_template.jinja").write_text(chat_templates.STRICT, encoding="utf-8")
    return folder


def plan_of(model: Path, source: Path, **changes: Any) -> Plan:
    few = {"data.heldout": 5, "candidates.records": 5, "candidates.canaries": 100, "candidates.extraction": 8}
    return Plan(
        loading.load("small", {"model.base": str(model), "data.source": str(source), **few, **changes})
    )


def told(plan: Plan, **options: Any) -> list[str]:
    with pytest.raises(UsageError) as caught:
        gate.check(plan, **options)
    return list(map(str, caught.value.errors if isinstance(caught.value, Mistakes) else [caught.value]))


def test_what_can_work_passes(toy_model_dir: Path, data: Path, tmp_path: Path) -> None:
    gate.check(plan_of(toy_model_dir, data), tmp_path / "runs", ())
    gate.check(plan_of(toy_model_dir, data, **{"training.unit": "patient"}), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_task_whose_answers_do_not_fit_the_model_is_told_before_training(
    toy_model_dir: Path, data: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "free.jsonl", *({"messages": asked(number)} for number in range(40)))
    tasks = {"evaluation.tasks": [{"name": "free_answers_file", "data": str(file)}]}
    gate.check(plan_of(toy_model_dir, data, **tasks))  # answers of 128 tokens
    narrow = shutil.copytree(toy_model_dir, tmp_path / "narrow")
    config = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 128}))
    (line,) = told(plan_of(narrow, data, **tasks))
    assert "free_answers_file: expected answers shorter than the model's window of 128 tokens" in line, line


def test_mistakes_of_several_kinds_are_told_in_one_go(toy_model_dir: Path, tmp_path: Path) -> None:
    rows = [
        {"messages": asked(n), **({} if n in (3, 45, 58) else {"patient_id": n // 4})} for n in range(ROWS)
    ]
    item = {"question": "q", "choices": ["one", "two"], "answer": 7}
    changes = {
        "training.unit": "patient",
        "training.lora.targets": ["nowhere"],
        "evaluation.tasks": [{"name": "medmcqa_file", "data": str(write(tmp_path / "bench.jsonl", item))}],
    }
    plan = plan_of(toy_model_dir, write(tmp_path / "rows.jsonl", *rows), **changes)
    lines = told(plan)
    assert len(lines) == 3
    assert any("bench.jsonl:1: answer: " in line for line in lines)
    assert any(line.startswith("training.lora.targets: ") for line in lines)
    assert any(
        "rows.jsonl:4: patient_id: " in line and "no patient on 3 of 60 lines" in line for line in lines
    )
    with pytest.raises(Mistakes):
        sequence.train(plan, tmp_path / "runs", QUIET)
    assert not (tmp_path / "runs").exists()


def test_what_rests_on_a_failed_check_is_left_out(data: Path, tmp_path: Path) -> None:
    """No second word on one cause: rows are read, and not rendered, where there is no tokenizer."""
    [line] = told(plan_of(tmp_path / "absent", data))
    assert str(tmp_path / "absent") in line


def test_a_row_beyond_the_first_ones_is_counted_once_another_mistake_stops_the_start(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    rows = [{"messages": asked(n), **({"patient_id": "p"} if n < 300 else {})} for n in range(310)]
    source = write(tmp_path / "rows.jsonl", *rows)
    by_patient = plan_of(toy_model_dir, source, **{"training.unit": "patient"})
    gate.check(by_patient)  # prepare reads every row
    with pytest.raises(UsageError, match=r"rows\.jsonl:301: patient_id: .* no patient on 10 of 310 lines"):
        sequence.train(by_patient, tmp_path / "runs", QUIET)
    assert not (tmp_path / "runs").exists()
    both = {"training.unit": "patient", "training.lora.targets": ["nowhere"]}
    assert any(
        "no patient on 10 of 310 lines" in line for line in told(plan_of(toy_model_dir, source, **both))
    )


def test_rows_of_which_every_answer_is_cut_away(toy_model_dir: Path, data: Path) -> None:
    [line] = told(plan_of(toy_model_dir, data, **{"model.max_length": 3}))
    assert line.startswith("model.max_length: expected room for an answer in some of the first 50 rows")


def test_too_little_room_is_told_with_need_and_free(toy_model_dir: Path, data: Path, tmp_path: Path) -> None:
    plan = plan_of(toy_model_dir, data)
    needed = needs.need(plan, 1000)
    assert needed == 2 * data.stat().st_size + 3 * 4000 + 4 * 4000
    needs.require_room(tmp_path, needed, Path("runs"))
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(
        UsageError, match=r"runs: expected room for at least [\d,.]+ GB: .* got [\d,.]+ GB free"
    ):
        needs.require_room(tmp_path, 2 * free + 10**9, Path("runs"))


def test_a_sparse_file_larger_than_the_disk_starts_nothing(
    toy_model_dir: Path, data: Path, tmp_path: Path
) -> None:
    with data.open("r+b") as stream:
        stream.truncate(4 * 10**12)
    assert any(
        line.startswith(f"{tmp_path / 'runs'}: expected room for at least 8,000.0 GB")
        for line in told(plan_of(toy_model_dir, data), runs=tmp_path / "runs")
    )


def test_a_judge_that_cannot_be_asked_stops_a_run_before_training(toy_model_dir: Path, data: Path) -> None:
    asked_of = {"judging": {"rubric": "likelihood", "model": "no/model"}}
    [line] = told(plan_of(toy_model_dir, data, **asked_of), allow_egress=())
    assert line.startswith("--model no/model: ")
    gate.check(plan_of(toy_model_dir, data, **asked_of))  # nothing is judged by `train`


MEDQA = {"evaluation.tasks": [{"name": "medqa_4options"}]}
ITEM = {"sent1": "Which drug?", "ending0": "a", "ending1": "b", "ending2": "c", "ending3": "d", "label": 0}
NO_ITEMS = "medqa_4options: expected its items on this machine, got none, and a name in a suite asks no hub; "


@pytest.mark.parametrize(
    ("item", "changes", "told"),
    [
        (None, {}, f"{NO_ITEMS}to fetch them now, add --allow-egress huggingface.co; or train without"),
        (
            {"sent1": "Which?", "label": 0},
            {},
            "rows have the fields that its task names, got KeyError: 'endi",
        ),
        (ITEM, {"evaluation.fewshot": 5}, "expected at most 2, the worked examples that medqa_4options has"),
        (ITEM, {}, None),
    ],
)
def test_items_of_lm_evals_own_tasks_are_looked_at_before_training(
    item: dict[str, Any] | None,
    changes: dict[str, Any],
    told: str | None,
    toy_model_dir: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder that bears the data set's name stands for the hub: `datasets` looks here first."""
    monkeypatch.chdir(tmp_path)
    place = Path("GBaker/MedQA-USMLE-4-options-hf")
    place.mkdir(parents=True)
    for split in ("train", "validation", "test") if item else ():
        write(place / f"{split}.jsonl", *([item or {}] * 2))
    if not item:
        place.rmdir()
    plan = plan_of(toy_model_dir, data, **MEDQA, **changes)
    with egress.closed():
        gate.check(plan, is_forecast=True)  # which fetches nothing
        if told is None:
            gate.check(plan)
            return
        with pytest.raises(UsageError) as caught:
            sequence.train(plan, tmp_path / "runs", QUIET)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_forecast_says_whose_items_it_does_not_look_at(
    toy_model_dir: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for changes, is_told in (({}, False), (MEDQA, True)):
        sequence.tell_ahead(plan_of(toy_model_dir, data, **changes), tmp_path / "runs", Progress())
        told = "the items of medqa_4options are here or on a hub was not looked at" in capsys.readouterr().err
        assert told == is_told


def test_too_many_worked_examples_of_a_file_are_told_before_training(
    toy_model_dir: Path, data: Path, tmp_path: Path
) -> None:
    rows = ({"question": f"Question {n}?", "choices": ["one", "two"], "answer": 0} for n in range(4))
    task = {"name": "medqa_us_file", "data": str(write(tmp_path / "items.jsonl", *rows))}
    plans = [
        plan_of(toy_model_dir, data, **{"evaluation.tasks": [task], "evaluation.fewshot": shots})
        for shots in (3, 4)
    ]
    gate.check(plans[0])
    [line] = told(plans[1])
    assert line.startswith(
        "evaluation.fewshot: expected at most 3, the worked examples that medqa_us_file has"
    )


def test_a_row_that_only_encoding_refuses_leaves_nothing_half_made(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    """A template whose answers share a token with what is before them, in a row beyond those that are looked
    at first.
    """
    folder = tmp_path / "models" / "glued"
    shutil.copytree(toy_model_dir, folder)
    glued = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}{{ m.content "
        "}}<|end|>{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(glued, encoding="utf-8")
    fine = [{"role": "user", "content": "What? "}, {"role": "assistant", "content": "500 mg"}]
    odd = [{"role": "user", "content": "Tak"}, {"role": "assistant", "content": "e it"}]
    rows = [{"messages": odd if n == 80 else fine, "id": f"r{n}"} for n in range(90)]
    plan = plan_of(
        folder,
        write(tmp_path / "rows.jsonl", *rows),
        **{"data.heldout": 1, "candidates.records": 0, "training.private": STEPS, "grid.baseline": False},
    )
    gate.check(plan)
    with pytest.raises(UsageError, match="a token that belongs to both"):
        sequence.train(plan, tmp_path / "runs", QUIET, workers=1)
    assert not list((tmp_path / "runs").glob("*"))


def test_mistakes_cross_to_another_process() -> None:
    found = Gathering()
    for name in ("one", "two", "two"):
        found.passes(refuse, name)
    with pytest.raises(Mistakes) as caught:
        found.end()
    assert (
        str(pickle.loads(pickle.dumps(caught.value)))
        == "one: expected this, got that\ntwo: expected this, got that"
    )
    assert caught.value.exit_code == 2


def refuse(name: str) -> None:
    raise UsageError(name, "this", "that")


# ---- the cases of public reports


def outcome(plan: Plan, runs: Path) -> str:
    """`works` where the corpus of a plan can be drawn, else the line that it ends with; nothing is left
    behind.
    """
    try:
        gate.check(plan, runs)
        load_corpus(plan)
    except UsageError as error:
        assert not runs.exists()
        return str(error)
    return "works"


@pytest.mark.parametrize(
    ("row", "ends"),
    [
        (lambda n: [{"role": "assistant", "content": "Hello."}, *asked(n)], "in 60 of 60 rows"),
        (lambda n: asked(n)[1:], "in 60 of 60 rows"),
        (lambda n: [{"role": "system", "content": "You are a nurse."}, *asked(n)], "works"),
    ],
)
def test_dialogues_against_a_strict_template(
    row: Callable[[int], Messages], ends: str, strict_model: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "rows.jsonl", *({"messages": row(n)} for n in range(ROWS)))
    found = outcome(plan_of(strict_model, source), tmp_path / "runs")
    assert found == ends or (ends in found and found.startswith(f"{source}:1: "))


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("file", sorted(CASES.rglob("*.json*")), ids=lambda file: file.name)
def test_the_shared_cases_end_in_a_right_result_or_one_line(
    file: Path, strict_model: Path, tmp_path: Path
) -> None:
    """As typed, those of templates by a strict one, with the first rows numbered on to sixty where there are
    few.
    """
    source = tmp_path / file.name
    lines = file.read_text(encoding="utf-8").splitlines()
    again = [
        lines[n % len(lines)] for n in range(len(lines) if file.suffix == ".json" else max(ROWS, len(lines)))
    ]
    source.write_text("\n".join(again) + "\n", encoding="utf-8")
    model = (
        strict_model if ".head" in file.name else "builtin:tiny"
    )  # the first reads letters, and its context is short
    words = [
        "train",
        "--suite",
        "small",
        "--model",
        str(model),
        "--data",
        str(source),
        "--eps",
        "8",
        "--no-baseline",
        "--set",
        "candidates.records=3",
        "--set",
        "data.heldout=2",
        "--set",
        f"training.private={json.dumps(STEPS)}",
        "--set",
        f"training.dpo_private={json.dumps(STEPS)}",
    ]
    if file.parent.name == "patient-int-float":
        words += ["--unit", "patient"]
    if "pref" in file.name or "dpo" in file.name:
        words += [
            "--set",
            f"data.source={strict_rows(tmp_path)}",
            "--set",
            f"data.preference={source}",
            "--dpo",
            "sigmoid",
        ]
    done = subprocess.run(
        [sys.executable, "-m", "dpaudit", *words], cwd=tmp_path, capture_output=True, text=True
    )
    said = done.stderr.strip().splitlines()
    if file.stem in ("kto", "weight0", "two_arrays", "order.head", "asstonly.head"):
        assert done.returncode == 2 and said[-1].startswith(f"dpaudit: {source}")
        assert not (tmp_path / "runs").exists()
    else:
        assert done.returncode == 0, said
    assert "Traceback" not in done.stderr


def strict_rows(folder: Path) -> Path:
    """Dialogues beside the pairs of a case."""
    return write(
        folder / "beside.jsonl",
        *({"messages": asked(n), "id": f"b{n}", "patient_id": 1000 + n} for n in range(ROWS)),
    )
