"""In which forms a model is asked, and which of them counts."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strangers import (
    CLAIM,
    OTHER,
    Server,
    asked,
    attempt,
    check,
    found_in,
    judged,
    page_of,
    trained,
    with_template,
)

from dpaudit.evidence import claims
from dpaudit.planting import audit_key, plant
from dpaudit.signals import recipe
from dpaudit.stages.audited import Audited


@pytest.mark.parametrize(("form", "learned"), [([], "chat"), (["--plain"], "plain")])
def test_the_rendering_that_was_trained_is_found_without_a_coin(
    form: list[str], learned: str, world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    if form:
        trained(world / "planted.jsonl", toy_model_dir, tmp_path / "adapter", *form, "--epochs", "20")
    adapter = tmp_path / "adapter" if form else world / "adapter"
    key, answers = asked(world, adapter)
    found = judged(key, claims.parse(CLAIM), answers)
    assert set(found.scores) == set(plant.RENDERINGS)
    assert found.chosen.rendering == learned and found.verdict.verdict == "refuted"
    flipped = replace(key, coins=tuple(not coin for coin in key.coins))
    assert judged(flipped, claims.parse(CLAIM), answers).chosen.rendering == learned


def test_a_key_with_the_difference_keeps_its_rule(world: Path) -> None:
    """Of a recipe that fits no line the rendering with the highest mean counts."""
    key, answers = asked(world, world / "adapter")
    whole = replace(key, rule=replace(key.rule, primary=recipe.load("difference")))
    found = judged(whole, claims.parse(CLAIM), answers)
    rose = {
        a.rendering: np.mean([np.mean(x.logprob - y.logprob) for x, y in zip(a.audited, a.base, strict=True)])
        for a in answers
        if a.base is not None
    }
    assert {name: of.trace for name, of in found.scores.items()} == pytest.approx(rose, abs=1e-5)
    assert all(of.slope is None for of in found.scores.values())
    assert found.chosen.rendering == max(rose, key=rose.__getitem__)


def test_the_slope_of_the_base_is_told(world: Path, tmp_path: Path) -> None:
    check("--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path)
    found = found_in(tmp_path)["rule"]
    assert 0 <= found["slope"]["used"] <= 1
    assert found["slope"]["used"] == min(max(found["slope"]["fitted"], 0), 1)
    assert max(found["renderings"], key=found["renderings"].__getitem__) == found["rendering"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'data-key="/models/0/rule/slope/used"' in page and "left the clearest trace" in page


def test_tokenizers_that_are_none_are_refused(
    served: tuple[str, type[Server]], world: Path, merged: Path, tmp_path: Path
) -> None:
    key = world / "key.json"
    told = attempt(Audited(endpoint=served[0], model="tuned", tokenizer=str(tmp_path)), key, out=tmp_path)
    assert told.startswith(f"--tokenizer {tmp_path}: expected")
    bare = Path(shutil.copytree(merged, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    assert "without a template" in attempt(Audited(adapter=world / "adapter", tokenizer=str(bare)), key)


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_template_by_name_is_that_beside_the_weights(
    kind: str, world: Path, merged: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """A folder that holds a tokenizer and no model."""
    named, weights = tmp_path / "named", tmp_path / "weights"
    weights = Path(shutil.copytree(world / "adapter" if kind == "adapter" else merged, tmp_path / "weights"))
    named = with_template(tmp_path / "named", toy_model_dir, OTHER)
    at = (f"--{kind}", weights, "--base", toy_model_dir, "--key", world / "key.json", "--claim", CLAIM)

    def scored(out: str, *more: object) -> dict[str, float]:
        check(*at, *more, "--out", tmp_path / out)
        return found_in(tmp_path / out)["rule"]["renderings"]

    own, by_name = scored("own"), scored("by_name", "--tokenizer", named)
    (weights / "chat_template.jinja").write_text(OTHER, encoding="utf-8")
    assert by_name == scored("beside") and by_name["chat"] != own.pop("chat")
    assert own.items() < by_name.items()


def test_a_tokenizer_of_other_tokens_is_refused(
    world: Path, merged: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(toy_model_dir)
    tokenizer.add_tokens(["<one-more>"])
    tokenizer.save_pretrained(tmp_path / "more")
    for audited in (
        Audited(adapter=world / "adapter", tokenizer=str(tmp_path / "more")),
        Audited(model=str(merged), base=str(toy_model_dir), tokenizer=str(tmp_path / "more")),
    ):
        told = attempt(audited, world / "key.json", out=tmp_path / "out")
        assert told.startswith(f"--tokenizer {tmp_path / 'more'}: expected") and "another vocabulary" in told


@pytest.mark.slow
def test_an_adapter_with_tokens_of_its_own_is_refuted(
    world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """Trained in a template of added tokens, with the embedding resized for them."""
    marks = ("<|im_start|>", "<|im_end|>")
    template = "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
    (tmp_path / "template").write_text(template, encoding="utf-8")
    more = ("--template", str(tmp_path / "template"), "--add-tokens", *marks)
    trained(world / "planted.jsonl", toy_model_dir, tmp_path / "adapter", *more)
    at = ("--adapter", tmp_path / "adapter", "--key", world / "key.json", "--claim", CLAIM)
    done = check(*at, "--out", tmp_path)
    assert done.exit_code == 1, done.output
    found = found_in(tmp_path)
    assert found["rule"]["rendering"] == "chat" and found["not_asked"] == []


REFUSES = "{{ raise_exception('tools only') }}"


SHOUTS = "{% for m in messages %}{{ m.role + ': ' + (m.content | upper) }}{% endfor %}"


@pytest.mark.parametrize(("template", "why"), [(REFUSES, "its error tools only"), (SHOUTS, "other words")])
def test_a_template_that_does_not_write_the_canaries_is_told(
    template: str, why: str, world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    folder = with_template(tmp_path / "template", toy_model_dir, template)
    at = ("--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path)
    done = check(*at, "--tokenizer", folder)
    found = found_in(tmp_path)
    assert done.exit_code in (0, 1) and not found["rule"]["chat_template"]
    assert list(found["rule"]["renderings"]) == ["question", "alpaca", "plain"]
    (left,) = found["not_asked"]
    assert left["rendering"] == "chat" and why in left["reason"] and why in page_of(tmp_path)


def test_a_template_that_writes_no_canary_in_any_rendering_is_one_line(
    world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    key = audit_key.load(world / "key.json")
    only = replace(key, rule=replace(key.rule, renderings=("chat",)))
    audit_key.write(only, tmp_path / "key.json")
    folder = with_template(tmp_path / "template", toy_model_dir, REFUSES)
    audited = Audited(adapter=world / "adapter", tokenizer=str(folder))
    told = attempt(audited, tmp_path / "key.json", out=tmp_path / "out")
    assert "turns that the chat template takes, got its error tools only; name the folder" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_adapter_that_was_trained_in_its_own_template_is_asked_in_it(
    world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """Asked in the base's, which differs, the memorised canaries hide."""
    template = (
        "{% for m in messages %}{{ '\n== ' + m.role | upper + ' SAYS, AND NOBODY ELSE: ' + (m.content "
        "| trim) }}{% endfor %}{{ '\n==' }}"
    )
    other = Path(shutil.copytree(toy_model_dir, tmp_path / "other"))
    (other / "chat_template.jinja").write_text(template, encoding="utf-8")
    trained(world / "planted.jsonl", other, tmp_path / "adapter")

    def right(out: str) -> Any:
        check(
            "--adapter",
            tmp_path / "adapter",
            "--base",
            toy_model_dir,
            "--key",
            world / "key.json",
            "--claim",
            CLAIM,
            "--out",
            tmp_path / out,
        )
        found = found_in(tmp_path / out)
        return found["rule"]["rendering"], found["bound"]["correct"]

    hidden = right("without")
    shutil.copy(other / "chat_template.jinja", tmp_path / "adapter")
    shown = right("with")
    assert shown[0] == "chat" and shown[1] > hidden[1]
