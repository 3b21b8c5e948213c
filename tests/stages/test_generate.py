"""Batch answers: their form, what is kept of a killed command, what is refused before a model is loaded."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpaudit.data import answer_files, judged_files
from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import decoding, generation
from dpaudit.models.decoding import Decoding
from dpaudit.models.hf_model import HFModel
from dpaudit.models.writers import HFWriter
from dpaudit.stages import generate
from dpaudit.system.progress import Progress
from tests.typed import Call

QUIET = Progress(quiet=True)
WAY = generate.way("greedy", 6, 0, "hf")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": "a", "prompt": "What helps against fever?"},
        {"id": "b", "messages": [{"role": "user", "content": "I cough."}]},
        {
            "id": "c",
            "conversations": [
                {"from": "human", "value": "My head hurts."},
                {"from": "gpt", "value": "Since when?"},
                {"from": "human", "value": "Since Monday."},
                {"from": "gpt", "value": "Drink water."},
            ],
        },
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_answers_are_those_of_the_model_in_a_form_that_other_commands_read(
    prompts: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    who = generate.of_model(None, str(toy_model_dir), None)
    (told,) = generate.run(prompts, who, out, WAY, QUIET)
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert rows[1]["prompt"] == "I cough." and len(rows[2]["messages"]) == 3
    assert rows[2]["reference"] == "Drink water." and "reference" not in rows[0]
    asked = [
        tuple(Turn(t["role"], t["content"]) for t in row["messages"])
        if "messages" in row
        else (Turn("user", row["prompt"]),)
        for row in rows
    ]
    written = HFModel.load(str(toy_model_dir)).write(asked, 6)
    assert [row["answer"] for row in rows] == [one.text for one in written]
    assert [row["finish_reason"] == "length" for row in rows] == [one.is_cut for one in written]
    assert told["cut"] == sum(one.is_cut for one in written) and told["answers"] == 3
    assert told["empty"] == sum(not one.text for one in written)
    read = answer_files.read(out)
    assert [item.answer for item in read] == [one.text for one in written]
    assert read[2].reference == "Drink water."
    second = tmp_path / "second.jsonl"
    second.write_text(out.read_text())
    judged = judged_files.read(out, second)
    assert [item.turns for item in judged] == asked


def test_an_adapter_answers_otherwise_than_its_base(
    prompts: Path, toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    answers = {}
    for name, who in {
        "base": generate.of_model(None, str(toy_model_dir), None),
        "adapter": generate.of_model(toy_adapter_dir, None, str(toy_model_dir)),
    }.items():
        generate.run(prompts, who, tmp_path / f"{name}.jsonl", WAY, QUIET)
        answers[name] = [row["answer"] for row in rows_of(tmp_path / f"{name}.jsonl")]
    assert answers["base"] != answers["adapter"]


def test_a_folder_holds_a_file_for_each_model(prompts: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    one = generate.of_model(None, str(toy_model_dir), None)
    who = replace(one, adapters={"x": None, "y": None}, files={"x": {}, "y": {}})
    told = generate.run(prompts, who, tmp_path / "out", WAY, QUIET)
    assert [Path(row["file"]) for row in told] == [tmp_path / "out/x.jsonl", tmp_path / "out/y.jsonl"]
    with pytest.raises(UsageError, match=r"a folder for 2 models, got one file"):
        generate.run(prompts, who, tmp_path / "out.jsonl", WAY, QUIET)


class Killed(Exception):
    pass


class Broken(HFWriter):
    """Dies after the first batch, and counts what it was asked."""

    asked = 0

    def write(self, *arguments: Any) -> Iterator[Any]:
        for batch in super().write(*arguments):
            type(self).asked += 1
            yield batch
            raise Killed


@pytest.mark.parametrize("preset", ["greedy", "sampled"])
def test_what_a_killed_command_answered_is_kept_and_the_whole_is_the_same(
    preset: str, prompts: Path, toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "batch_tokens", lambda model: 1)  # a prompt a batch
    who, way = generate.of_model(None, str(toy_model_dir), None), generate.way(preset, 6, 3, "hf")
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    generate.run(prompts, who, whole, way, QUIET)
    model = HFModel.load(str(toy_model_dir))
    with monkeypatch.context() as patched:
        patched.setattr(generate, "_writer", lambda *_: Broken(model))
        for _ in range(2):
            with pytest.raises(Killed):
                generate.run(prompts, who, stopped, way, QUIET)
        assert not stopped.exists() and Broken.asked == 2
    Broken.asked = 0
    left = (tmp_path / ".stopped.jsonl.answers").read_bytes()
    assert len(left.splitlines()) == 2 and b"cough" not in left
    generate.run(prompts, who, stopped, way, QUIET)
    assert stopped.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".stopped.jsonl.answers").exists()


def test_answers_of_other_settings_are_not_taken_up(prompts: Path, toy_model_dir: Path) -> None:
    who = generate.of_model(None, str(toy_model_dir), None)
    name = next(iter(who.adapters))
    digests = {
        generate._made_from(who, name, way)
        for way in (
            WAY,
            generate.way("greedy", 7, 0, "hf"),
            generate.way("sampled", 6, 0, "hf"),
            generate.way("greedy", 6, 1, "hf"),
            generate.way("greedy", 6, 0, "vllm"),
        )
    }
    other = replace(who, files={name: {"model.safetensors": "0" * 64}})
    assert len(digests | {generate._made_from(other, name, WAY)}) == 6


def test_sampling_depends_on_the_seed_and_not_on_what_is_known(toy_model_dir: Path) -> None:
    model, settings = HFModel.load(str(toy_model_dir)), Decoding(12, 1.0)
    prompts = [(Turn("user", f"Question {number}?"),) for number in range(4)]

    def answers(seed: int, known: tuple[int, ...] = ()) -> dict[int, str]:
        batches = list(model.write_in_batches(prompts, settings, seed, known))
        return {at: one.text for places, written in batches for at, one in zip(places, written, strict=True)}

    assert answers(1) == answers(1) != answers(2)
    assert answers(1, (0, 2)) == answers(1)  # a batch is drawn whole, or not at all
    assert answers(1, (0, 1, 2, 3)) == {}


def test_presets_are_those_of_the_origin_systems() -> None:
    assert decoding.of_preset("sampled", 9) == Decoding(9, 0.7, 0.9, 1.1, 0)
    assert decoding.of_preset("conservative", 9) == Decoding(9, 0.6, 0.85, 1.15, 3)
    with pytest.raises(
        UsageError, match=r"--preset: expected one of greedy, sampled, conservative, got warm"
    ):
        decoding.of_preset("warm", 9)


def test_what_does_not_fit_is_refused_and_nothing_is_left(
    prompts: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    who = generate.of_model(None, str(toy_model_dir), None)
    out = tmp_path / "new" / "out.jsonl"
    with pytest.raises(UsageError, match=r"prompts\.jsonl: expected prompts of at most .* got 3 longer ones"):
        generate.run(prompts, who, out, generate.way("greedy", 100_000, 0, "hf"), QUIET)
    with pytest.raises(UsageError, match=r"backend vllm: expected the package vllm"):
        generate.run(prompts, who, out, generate.way("sampled", 6, 0, "vllm"), QUIET)
    with pytest.raises(UsageError, match=r"--preset conservative: expected a preset that vLLM can draw"):
        generate.run(prompts, who, out, generate.way("conservative", 6, 0, "vllm"), QUIET)
    assert not out.exists()
    out.parent.mkdir(exist_ok=True)
    out.write_text("mine\n")
    with pytest.raises(
        UsageError, match=r"out\.jsonl: expected a file that is not there yet, got one that is"
    ):
        generate.run(prompts, who, out, WAY, QUIET)
    assert out.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one prompt, got none"),
        ('{"id": "a"}\n', "a prompt, as prompt, question or messages, got none"),
        ('{"id": 1, "prompt": "x"}\n{"id": 1, "prompt": "y"}\n', r":2: expected names that occur once"),
        ('{"id": "2", "prompt": "x"}\n{"prompt": "y"}\n', r":2: expected names that occur once"),
        ("{", "JSON"),
    ],
)
def test_a_bad_file_is_one_line_that_quotes_nothing(
    text: str, said: str, toy_model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    who = generate.of_model(None, str(toy_model_dir), None)
    with pytest.raises(UsageError, match=said) as caught:
        generate.run(tmp_path / "bad.jsonl", who, tmp_path / "out.jsonl", WAY, QUIET)
    assert "\n" not in str(caught.value)


def test_the_command_names_what_is_missing(call: Call, prompts: Path, toy_model_dir: Path) -> None:
    typed = ("generate", str(prompts), "--out", "o.jsonl")
    for words, said in {
        (): "expected one of --model DIR, --adapter DIR, --run NAME, got no model",
        ("--model", "nowhere"): "--model nowhere",
        ("--adapter", "nowhere"): "--adapter nowhere: expected an adapter folder, got no such folder",
        ("--arm", "sft-eps8"): "--arm: expected --run beside it",
        ("--run", "r", "--model", "m"): "--run: expected a run or a model, got --model beside it",
        ("--model", str(toy_model_dir), "--backend", "tgi"): "--backend: expected one of hf, vllm, got tgi",
        ("--model", str(toy_model_dir), "--base", "b"): "--base: expected --adapter beside it",
    }.items():
        done = call(*typed, *words)
        assert (done.code, said in done.err) == (2, True), done.err
    done = call(*typed, "--model", str(toy_model_dir), "--max-new-tokens", "4")
    assert done.code == 0 and "3" in done.out and len(rows_of(Path("o.jsonl"))) == 3
