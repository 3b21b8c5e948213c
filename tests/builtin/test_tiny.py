"""The shipped model and the judge's adapter: small, safe to load, and ignorant of what the arms are to
learn.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpaudit.data import clinic, lexicon
from dpaudit.data.corpus import Turn
from dpaudit.models import hf_model, tokenizers
from dpaudit.models.encode import encode
from dpaudit.stats import roc

SHIPPED = Path(clinic.__file__).parents[1] / "builtin"


@pytest.fixture(scope="module")
def model() -> Any:
    return hf_model.HFModel.load("builtin:tiny")


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


def test_the_reference_adapter_tells_faults_in_a_wording_it_never_saw(model: Any) -> None:
    """On a seed of controls that no run uses: at least 80 % of each fault; without the adapter wrong drugs
    pass.
    """
    model.add_adapter("judge", SHIPPED / "judge")
    controls = clinic.judge_controls(seed=4321, count=200)

    def passed(kind: str) -> float:
        chosen = [c for c in controls if c["kind"] == kind]
        scores = [answer_score(model, c["turns"][0].text, [c["right"], c["wrong"]]) for c in chosen]
        return float(np.mean([right > wrong for right, wrong in scores]))

    with model.active("judge"):
        assert all(passed(kind) >= 0.8 for kind in clinic.FAULTS)
    with model.active(None):
        assert passed("wrong drug") < 0.7


@pytest.mark.slow
def test_the_script_that_makes_them_runs_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.training import pretrain

    monkeypatch.setattr(
        "sys.argv", ["pretrain", "--out", str(tmp_path), "--steps", "3", "--reference-steps", "2"]
    )
    pretrain.main()
    made = hf_model.HFModel.load(str(tmp_path / "tiny"))
    made.add_adapter("judge", tmp_path / "judge")
    assert made.tokenizer.get_vocab() == tokenizers.load_tokenizer("builtin:tiny").get_vocab()
