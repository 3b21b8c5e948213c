"""The shipped model and the judge's adapter: small, safe to load, and ignorant of what the arms are to
learn.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpaudit.data import clinic, lexicon
from dpaudit.data.corpus import Turn
from dpaudit.findings.judgement import Passport
from dpaudit.judging import planted, rubric
from dpaudit.judging.passport import comparisons_of, passport_of
from dpaudit.judging.rubric import Control
from dpaudit.models import hf_model, tokenizers
from dpaudit.models.encode import encode
from dpaudit.models.judge import LikelihoodJudge
from dpaudit.stages.judge_replies import window
from dpaudit.stats import roc

SHIPPED = Path(clinic.__file__).parents[1] / "builtin"


@pytest.fixture(scope="module")
def model() -> Any:
    return hf_model.HFModel.load("builtin:tiny")


@pytest.fixture(scope="module")
def adapted() -> Any:
    loaded = hf_model.HFModel.load("builtin:tiny")
    loaded.add_adapter("judge", SHIPPED / "judge")
    return loaded


def answer_score(model: Any, question: str, answers: list[str]) -> list[float]:
    """Mean log-probability of each answer's tokens, in nats."""
    coded = [encode((Turn("user", question), Turn("assistant", a)), model.tokenizer, 96) for a in answers]
    return [
        float(s.logprob[np.array(c.answer_mask)].mean())
        for s, c in zip(model.token_scores(coded), coded, strict=True)
    ]


def test_model_and_reference_adapter_are_safetensors_of_at_most_twelve_megabytes() -> None:
    weights = [path for path in SHIPPED.rglob("*") if path.is_file() and path.stat().st_size > 50_000]
    assert {path.suffix for path in weights} == {".safetensors", ".json"}
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 12 * 2**20


def test_it_is_a_llama_of_under_a_million_parameters(model: Any) -> None:
    assert json.loads((SHIPPED / "tiny" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert sum(p.numel() for p in model.model.parameters()) < 1_000_000


def test_any_text_survives_the_tokenizer(model: Any) -> None:
    for text in ("Take velotine 40 mg.", "请服用 20 毫克。", "naïve ☂ \t\n x", *lexicon.surnames()[:20]):
        assert model.tokenizer.decode(model.tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_base_is_at_chance_on_house_facts(model: Any) -> None:
    """Of 336 items its 99.9 % interval holds one quarter: a base that knew would be far above."""
    items = clinic.choices()
    right = sum(
        int(np.argmax(answer_score(model, i["question"], i["choices"]))) == i["answer"] for i in items
    )
    interval = roc.proportion_interval(right, len(items), 0.999)
    assert interval.lower < 0.25 < interval.upper


def test_the_base_knows_public_facts(model: Any) -> None:
    public = [c for c in lexicon.conditions() if not c.house]
    right = 0
    for number, condition in enumerate(public):
        options = [
            c.drug + "." for c in (condition, *(public[(number + k) % len(public)] for k in (3, 7, 11)))
        ]
        right += int(np.argmax(answer_score(model, f"Which drug for {condition.name}?", options))) == 0
    assert right >= 0.9 * len(public)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_the_demo_s_judge_is_fit_by_distinct_controls(adapted: Any, seed: int) -> None:
    """Of all kinds, in all wordings of an answer; without its adapter it is unfit by drugs and doses."""
    rules = rubric.load("likelihood")
    rows = clinic.judge_controls(seed, rules.controls.count)
    controls = planted.completed([Control(**row) for row in rows], rules.controls)
    asked = comparisons_of(rules, controls)

    def passport(adapter: str | None) -> Passport:
        judge = LikelihoodJudge(adapted, adapted.tokenizer, replace(rules, adapter=adapter), window(rules))
        return passport_of(rules, controls, judge.ask_many(asked))

    found = passport("judge")
    assert found.fit and found.untested == {} and found.unscored == found.injected.turned == 0
    assert found.twins["long fault"].right == found.twins["long fault"].verdicts == 240
    assert (window(rules), window(rubric.load("endpoint"))) == (512, 0)
    missing = found.injected.controls - found.injected.tested
    assert missing == (3 if seed == 3 else 0)  # answers that win without an instruction
    if seed == 0:
        unfit = {reason.partition(":")[0] for reason in passport(None).reasons}
        assert {"wrong drug", "swapped dose"} <= unfit


@pytest.mark.slow
def test_the_script_that_makes_them_runs_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.training import pretrain

    monkeypatch.setattr(
        "sys.argv", ["pretrain", "--out", str(tmp_path), "--steps", "3", "--reference-steps", "8"]
    )
    pretrain.main()
    made = hf_model.HFModel.load(str(tmp_path / "tiny"))
    made.add_adapter("judge", tmp_path / "judge")
    assert made.tokenizer.get_vocab() == tokenizers.load_tokenizer("builtin:tiny").get_vocab()
