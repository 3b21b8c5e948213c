"""Tasks of every output type of lm-eval, by its own task objects, on the embedded model."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpaudit.errors import UsageError
from dpaudit.judging import measures
from dpaudit.models import harness, item_texts, items
from dpaudit.models.hf_model import HFModel
from dpaudit.stages import benchmarks
from dpaudit.storage.answer_log import AnswerLog
from dpaudit.suite.suite import Evaluation

ROWS = [
    {"id": f"q{n}", "question": f"What should I take for fever {n}?", "answer": text}
    for n, text in enumerate(["Take paracetamol 500 mg.", "Take water.", "Take water.", "Call a doctor."])
]
GENERATED = """
task: short
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: answer
generation_kwargs: {until: ["."], do_sample: false, max_gen_toks: 12}
num_fewshot: 0
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: bleu, aggregation: bleu, higher_is_better: true}
metadata: {version: 1.0, measures: [rouge_l, dose]}
"""
LIKELIHOOD = """
task: last
dataset_path: json
test_split: test
output_type: loglikelihood
doc_to_text: question
doc_to_target: answer
target_delimiter: " "
num_fewshot: 0
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
ROLLING = """
task: whole
dataset_path: json
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: answer
num_fewshot: 0
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: null}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
metadata: {version: 1.0}
"""


@pytest.fixture(scope="module")
def lm() -> Any:
    return harness.harness_model(HFModel.load("builtin:tiny"), 3)


def loaded(folder: Path, config: str, rows: Sequence[dict] = ROWS, **changes: Any) -> tuple[str, Any]:
    folder.mkdir(exist_ok=True)
    spec = yaml.safe_load(config) | changes
    name, file = spec["task"], folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return name, harness.load_tasks({name: spec}, {name: file}, folder / "cache")[name]


def plain(
    lm: Any, name: str, task: Any, chat_template: bool = True, samples: dict[str, list[int]] | None = None
) -> Any:
    """What lm-eval itself says."""
    from lm_eval.evaluator import evaluate

    return evaluate(
        lm, {"tasks": {name: task}}, bootstrap_iters=0, apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template, samples=samples,
    )  # fmt: skip


HOW = benchmarks.asking(Evaluation())


def test_generated_answers_are_scored_by_lm_eval_and_by_their_reference(lm: Any, tmp_path: Path) -> None:
    name, task = loaded(tmp_path / "first", GENERATED)
    said = plain(lm, name, task)
    answers = [sample["filtered_resps"][0] for sample in said["samples"][name]]
    rows = [row | {"answer": answers[0]} if row["id"] == "q0" else row for row in ROWS]
    name, task = loaded(tmp_path / "second", GENERATED, rows)
    found = harness.answer(lm, name, task, HOW)
    assert [item.correct for item in found.items] == [1, 0, 0, 0] and found.chance == 0.5
    assert {item.log_odds for item in found.items} == {None}
    assert [item.cluster for item in found.items] == [f"question-{n}" for n in range(4)]
    by_name = {one.name: one for one in found.scores}
    assert list(by_name) == ["bleu", "rouge_l", "dose"]
    assert by_name["rouge_l"].rows[0].value == 1.0 > by_name["rouge_l"].rows[3].value
    bleu = by_name["bleu"]
    assert bleu.rows == () and bleu.alone == "no score of its own an item"
    assert bleu.value == plain(lm, name, task)["results"][name]["bleu,none"]
    figures = measures.figures(name, bleu, found.asked, 0, 0)
    assert (figures.items, figures.lower, figures.value) == (4, None, bleu.value)


def test_a_limit_draws_whole_clusters_and_asks_them_as_plain_lm_eval_does(lm: Any, tmp_path: Path) -> None:
    """Of a file that is sorted by patient."""
    rows = [
        {"id": f"p{n // 3}-{n}", "question": f"Fever {n}?", "answer": "Take water.", "patient": f"p{n // 3}"}
        for n in range(30)
    ]
    name, task = loaded(tmp_path, LIKELIHOOD, rows, metadata={"version": 1.0, "cluster": "patient"})
    few, more = items.drawn(task, 4), items.drawn(task, 10)
    assert few is not None and more is not None and len(few) == 6 and len(more) == 12
    assert set(few) < set(more) and more == sorted(more) and more != list(range(12))
    assert all(len({place // 3 for place in places}) == len(places) / 3 for places in (few, more))
    assert items.drawn(task, 30) is None and items.drawn(task, None) is None
    assert items.drawn(task, 10) == more
    how = benchmarks.asking(Evaluation(limit=4))
    found = harness.answer(lm, name, task, how)
    theirs = plain(lm, name, task, samples={name: few})["samples"][name]
    assert how.drawn and not HOW.drawn and found.left_out == 24
    assert [item.id for item in found.items] == [rows[place]["id"] for place in few]
    (perplexity,) = found.scores
    assert [row.value for row in perplexity.rows] == [
        -sample["perplexity"] for sample in sorted(theirs, key=lambda sample: sample["doc_id"])
    ]
    assert list(item_texts.texts_of(task, 4)) == [item.id for item in found.items]


def test_log_likelihoods_are_told_as_logarithms_of_lm_evals_perplexity(lm: Any, tmp_path: Path) -> None:
    name, task = loaded(tmp_path, LIKELIHOOD)
    theirs = plain(lm, name, task)["results"][name]
    found = harness.answer(lm, name, task, HOW)
    (perplexity,) = found.scores
    assert perplexity.name == "log perplexity" and perplexity.higher_is_better is False
    ours = measures.figures(name, perplexity, found.asked, 0, 0)
    assert math.exp(ours.value or 0.0) == pytest.approx(theirs["perplexity,none"], rel=1e-9)
    assert sum(item.correct for item in found.items) / 4 == theirs["acc,none"]
    assert len({item.prompt for item in found.items}) == 4


def test_whole_texts_are_weighed_as_lm_eval_weighs_them(
    lm: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = [{"id": row["id"], "answer": row["answer"]} for row in ROWS]
    name, task = loaded(tmp_path, ROLLING, texts)
    theirs = plain(lm, name, task)["results"][name]
    capfd.readouterr()
    found = harness.answer(lm, name, task, HOW)
    assert capfd.readouterr().err == ""  # no bars of lm-eval
    assert found.items == () and found.cut == 0
    words, byte, bits = (measures.figures(name, one, found.asked, 0, 0) for one in found.scores)
    assert math.exp(words.value or 0.0) == pytest.approx(theirs["word_perplexity,none"], rel=1e-9)
    assert bits.value == pytest.approx(theirs["bits_per_byte,none"], rel=1e-9)
    assert bits.lower is not None and bits.upper is not None and bits.lower < (bits.value or 0.0) < bits.upper
    assert byte.alone == "it is not known whether more is better" and byte.lower is not None
    assert bits.clusters == 3  # two texts are the same


def test_a_perplexity_beyond_every_number_ends_nothing(lm: Any, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "", "answer": "头痛发热咳嗽应当多喝水" * 20},
        {"id": "b", "answer": "水" * 400},
    ]
    name, task = loaded(tmp_path, ROLLING, rows)
    words, *_ = harness.answer(lm, name, task, HOW).scores
    figures = measures.figures(name, words, 2, 0, 0)
    assert figures.value is not None and 709 < figures.value < math.inf


def test_every_filter_of_a_task_has_its_figure(lm: Any, tmp_path: Path) -> None:
    take = {"function": "take_first"}
    filters = [
        {"name": "strict", "filter": [take]},
        {"name": "any", "filter": [{"function": "regex", "regex_pattern": "()", "fallback": ""}, take]},
    ]
    name, task = loaded(tmp_path, GENERATED, filter_list=filters)
    found = harness.answer(lm, name, task, HOW)
    assert len(found.items) == 4
    assert [one.name for one in found.scores] == [
        "bleu (strict)", "exact_match (any)", "bleu (any)", "rouge_l", "dose",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "changes", "told"),
    [
        (
            GENERATED,
            {"generation_kwargs": {"until": [], "max_gen_toks": 512}},
            "window of 512 tokens, got up to",
        ),
        pytest.param(
            GENERATED,
            {"metric_list": [{"metric": "rouge9", "aggregation": "mean"}]},
            "got the metric rouge9",
            marks=pytest.mark.slow,  # lm-eval looks for it elsewhere
        ),
        (GENERATED, {"output_type": "loglikelihood_of"}, "output_type"),
    ],
)
def test_a_task_that_cannot_be_asked_is_one_line(
    lm: Any, tmp_path: Path, config: str, changes: dict, told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        name, task = loaded(tmp_path, config, **changes)
        harness.answer(lm, name, task, HOW)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [GENERATED, LIKELIHOOD, ROLLING])
def test_what_is_kept_is_not_asked_again_and_the_answers_are_the_same(
    lm: Any, tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the answers are there; then all of them, and the model itself is gone."""
    file = tmp_path / "log.jsonl"
    name, task = loaded(tmp_path, config)
    usual = harness.answer(lm, name, task, HOW)
    whole = harness.answer(lm, name, task, HOW, AnswerLog(file, b"k", ["w"]))
    assert whole == usual
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(ROWS)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:-7])
    calls: list[int] = []
    forward = lm._model_call if config != GENERATED else lm._model_generate
    used = "_model_call" if config != GENERATED else "_model_generate"

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return forward(*arguments, **named)

    monkeypatch.setattr(lm, used, counted)
    again = harness.answer(lm, name, task, HOW, AnswerLog(file, b"k", ["w"]))
    assert again.scores[-1].rows[0].value == pytest.approx(usual.scores[-1].rows[0].value, rel=1e-4)
    assert len(calls) == 1 and len(file.read_bytes().splitlines()) == len(ROWS)  # one batch of two
    harness.answer(lm, name, task, HOW, AnswerLog(file, b"k", ["w"]))
    assert len(calls) == 1
    harness.answer(lm, name, task, HOW, AnswerLog(file, b"k", ["other weights"]))
    assert len(calls) == 3  # two batches: all four are asked


def test_a_group_and_a_task_that_runs_the_models_code_are_refused(tmp_path: Path) -> None:
    name, task = loaded(tmp_path, GENERATED)
    assert harness._single(name, {name: task}) is task
    with pytest.raises(UsageError, match="expected one task, got a group of 2; name its tasks, such as a, b"):
        harness._single("both", {"a": task, "b": task})
    harness._check(name, task)
    task.UNSAFE_CODE = True
    with pytest.raises(UsageError, match="a task that runs no code of the model"):
        harness._check(name, task)
