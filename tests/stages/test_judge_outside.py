"""Two files of answers judged behind a server on this machine, without a run."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server import FIRST_WAIT, PROMPT, JudgeServer, serving
from safetensors.torch import load_file, save_file
from typed import Call

from dpaudit.findings.judgement import Judgement
from dpaudit.models import served
from dpaudit.stages import judge_outside

COUNT = 36
MADE = ("passport.json", "judgements.jsonl", "summary.json")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", FIRST_WAIT)


def right(number: int) -> str:
    return f"Take ibuprofen {number + 5} mg with water in the evening. Avoid alcohol in case {number}."


def question(number: int) -> str:
    return f"What helps against {chr(97 + number // 6) * 3}{'aeiouy'[number % 6]}itis?"


RIGHT = {right(number) for number in range(COUNT)}


def knows(first: str, second: str) -> str:
    """A perfect judge."""
    told = first in RIGHT, second in RIGHT
    return "[[tie]]" if told[0] == told[1] else "[[A]]" if told[0] else "[[B]]"


def write_rules(url: str, **changes: Any) -> None:
    known = {"model": "m", "prompt": PROMPT, "base_url": url, "timeout": 5.0, "max_new_tokens": 20}
    rules = {"name": "remote", "title": "Remote", "kind": "endpoint", "retries": 2, **known, **changes}
    controls = {"count": 8, "least": 7, "minimum": 0.6, "repeats": 0}
    Path("remote.yaml").write_text(yaml.safe_dump(rules | {"controls": controls}))


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_files() -> None:
    """Ours is right in all but every fourth row, theirs in no row; prompts occur once."""
    asked = [{"id": f"q{n}", "prompt": question(n)} for n in range(COUNT)]
    write(
        "ours.jsonl",
        [row | {"answer": right(n) if n % 4 else f"Rest {n}."} for n, row in enumerate(asked)],
    )
    write("theirs.jsonl", [{"id": row["id"], "answer": f"Tea {n}."} for n, row in enumerate(asked)])
    write("right.jsonl", [row | {"answer": right(n)} for n, row in enumerate(asked)])


FILES = ("judge", "--answers", "ours.jsonl", "--against", "theirs.jsonl", "--rubric", "remote.yaml")
WHOLE = (*FILES, "--questions", "right.jsonl")


def content(folder: str = "judged") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def test_two_files_are_judged_and_every_figure_is_made_again_from_the_folder(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        ahead = json.loads(call(*WHOLE, "--dry-run", "--json").out)
        assert not server.requests and not Path("judged").exists()
        stopped = call(*WHOLE, "--max-tokens-total", "2000")
        assert stopped.code == 3 and "could pass 2000 tokens" in stopped.err
        done = call(*WHOLE)
        assert done.code == 0, done.err
        assert set(server.asked.values()) == {1}  # what was answered before the stop is not asked again
        assert len(server.requests) == ahead["calls_for_controls"] + ahead["calls_for_answers"]
        asked = len(server.requests)
        kept = call(*WHOLE)
        assert kept.code == 0 and len(server.requests) == asked
    assert "none: right answers and wrong ones differ in length" in " ".join(done.out.split())
    assert "ours  theirs" in done.out and f"distinct prompts: {COUNT}" in done.out and "fewer" not in done.out
    before = content()
    for name in (*MADE, "asked.json", ".replies", "replies.key"):
        assert (Path("judged") / name).stat().st_mode & 0o777 == 0o600
    summary = json.loads(before["summary.json"])
    (pair,) = summary["pairs"]
    assert (pair["wins"], pair["ties"], pair["losses"]) == (54, 18, 0) and pair["win_rate"] == 0.875
    assert not any(answer in before[name].decode() for answer in RIGHT for name in MADE)

    for name in MADE:
        (Path("judged") / name).unlink()
    for name in ("ours.jsonl", "theirs.jsonl", "right.jsonl", "remote.yaml"):
        Path(name).unlink()
    again = call("judge", "replay", "--out", "judged")
    assert (again.code, again.out) == (0, kept.out)
    assert content() == before
    replies = Path("judged/.replies")
    replies.write_bytes(b"".join(replies.read_bytes().splitlines(keepends=True)[:-1]))
    lost = call("judge", "replay", "--out", "judged")
    assert lost.code == 2 and "1 without one" in lost.err
    Path("judged/asked.json").write_bytes(before["asked.json"].replace(b'"Tea 3."', b'"Tea 4."'))
    altered = call("judge", "replay", "--out", "judged")
    assert altered.code == 2 and "asked.json" in altered.err and "an altered file" in altered.err
    Path("judged/replies.key").unlink()
    assert "replies.key" in call("judge", "replay", "--out", "judged").err


def test_an_unfit_judge_gives_no_win_rate_and_exits_with_four(call: Call) -> None:
    write_files()
    with serving(JudgeServer(lambda *_: "[[A]]")) as server:
        write_rules(server.url)
        told = call(*WHOLE, "--json")
    found = json.loads(told.out)
    assert told.code == 4 and found["fit"] is False and found["reason"]
    assert found["pairs"][0]["win_rate"] is None and Path("judged/judgements.jsonl").read_text() == ""
    refused = call("judge", "validate", "--out", "judged", "--human", "people.csv")
    assert refused.code == 2 and "judgements of a fit judge" in refused.err
    assert call("judge", "validate", "--out", "judged").code == 4


def test_every_judge_that_was_tried_on_the_same_answers_is_told_with_its_folder(call: Call) -> None:
    """Until its folder is gone; of other answers, and of a folder that was altered, none is."""
    write_files()
    biased = JudgeServer(lambda *_: "[[A]]")
    with serving(biased) as first, serving(JudgeServer(knows)) as server:
        write_rules(first.url)
        alone = call(*WHOLE, "--out", "one")
        write_rules(server.url, model="n")
        both = call(*WHOLE, "--out", "two", "--json")
        assert call(*WHOLE, "--prompts", "30", "--out", "three").code == 0  # some of the same answers
        write("ours.jsonl", [{"id": f"q{n}", "prompt": question(n), "answer": "Rest."} for n in range(COUNT)])
        other = call(*WHOLE, "--out", "other", "--json")
    assert alone.code == 4 and "in folder" not in alone.out
    rows = json.loads(both.out)["judges_tried_in"]
    assert [(row["folder"], row["model"], row["fit"]) for row in rows] == [
        ("two/", "n", True),
        ("one/", "m", False),
    ]
    assert rows[1]["why_not"] and "order swap" in rows[1]["why_not"]
    assert "judges_tried_in" not in json.loads(other.out)
    told = call("judge", "validate", "--out", "one")
    assert "in folder" in told.out and "two/" in told.out and "three/" in told.out
    assert "from the folder of the result and from those beside it alone" in told.out
    assert judge_outside.KNOWN_TRIES in json.loads(Path("two/summary.json").read_text())["notes"]
    tries = Path("two/tries.json")
    assert tries.stat().st_mode & 0o777 == 0o600 and not any(text in tries.read_text() for text in RIGHT)
    tries.write_text(tries.read_text().replace('"n"', '"o"'))
    altered = call("judge", "validate", "--out", "one")
    assert "folders beside unread: 1: what was tried in them is not known" in altered.out
    shutil.rmtree("two")
    shutil.rmtree("three")
    assert "in folder" not in call("judge", "validate", "--out", "one").out


@pytest.mark.parametrize("option", ["--questions", "--controls"])
@pytest.mark.parametrize(
    "names",
    [("prompt", "reference"), ("question", "answer"), ("instruction", "output"), ("prompt", "completion")],
)
def test_one_file_of_right_answers_fits_either_option(
    option: str, names: tuple[str, str], call: Call
) -> None:
    write_files()
    write("right.jsonl", [{"id": f"q{n}", names[0]: question(n), names[1]: right(n)} for n in range(COUNT)])
    write_rules("http://127.0.0.1:9/v1")
    ahead = call(*FILES, option, "right.jsonl", "--dry-run", "--json")
    assert ahead.code == 0, ahead.err
    assert json.loads(ahead.out)["calls_for_controls"] > 0


def test_few_prompts_and_unscored_ones_are_told_with_their_bounds(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows, lambda text, _: "empty" if "Tea 5." in text else None)) as server:
        write_rules(server.url, retries=0)
        told = call(*WHOLE, "--prompts", "20")
    assert told.code == 0 and told.out.count("fewer than 30 distinct prompts") == 1  # a caution, and no note
    bounds = [line for line in told.out.splitlines() if line.startswith("unscored all")]
    assert bounds == ["unscored all lost: 0.825", "unscored all won: 0.875"]


def test_a_folder_with_another_result_is_left_alone(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        assert call(*WHOLE).code == 0
        before, asked = content(), len(server.requests)
        for words in ((*WHOLE, "--prompts", "20"), (*FILES, "--controls", "builtin:clinic")):
            other = call(*words)
            assert other.code == 2 and "--out" in other.err and "another result" in other.err
        Path("mine").mkdir()
        Path("mine/thesis.txt").write_text("mine")
        taken = call(*WHOLE, "--out", "mine")
        assert taken.code == 2 and "other files" in taken.err and len(content("mine")) == 1
        assert content() == before and len(server.requests) == asked
        Path("gone").symlink_to("nowhere")
        assert "a link that leads nowhere" in call(*WHOLE, "--out", "gone", "--dry-run").err
        assert "a link that leads nowhere" in call(*WHOLE, "--out", "gone").err
        Path("judged/.replies").unlink()
        Path("judged/.replies").mkdir()
        for words in (WHOLE, ("judge", "replay", "--out", "judged")):
            folder = call(*words)
            assert folder.code == 2 and "expected a file of replies, got a folder" in folder.err
        Path("judged/.replies").rmdir()
        assert "another result" in call(*WHOLE, "--prompts", "20").err


def test_a_judge_with_other_weights_is_another_result(call: Call, toy_model_dir: Path) -> None:
    write_files()
    shutil.copytree(toy_model_dir, "model")
    write_rules("", kind="likelihood", model="model")
    assert call(*WHOLE).code == 4 and call(*WHOLE).code == 4
    before = content()
    (weights,) = Path("model").glob("*.safetensors")
    save_file({name: 2 * one for name, one in load_file(weights).items()}, "other")
    Path("other").replace(weights)
    other = call(*WHOLE)
    assert other.code == 2 and "another result" in other.err and content() == before
    assert call("judge", "replay", "--out", "judged").code == 4 and content() == before


def test_a_judge_that_is_proven_on_other_data_is_cautioned_of(call: Call) -> None:
    """And one that is proven on the files' own right answers is not."""
    write_files()
    turns = (("user", question), ("assistant", right))
    dialogues = [{"messages": [{"role": r, "content": made(n)} for r, made in turns]} for n in range(COUNT)]
    write("dialogues.jsonl", dialogues)
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        assert call(*FILES, "--controls", "dialogues.jsonl", "--out", "other").code == 0
        assert call(*WHOLE, "--out", "own").code == 0
    of = {name: json.loads(Path(name, "summary.json").read_text())["pairs"][0] for name in ("other", "own")}
    assert judge_outside.NOT_OWN in of["other"]["cautions"]
    assert judge_outside.NOT_OWN not in of["own"]["cautions"]


def test_a_kill_while_the_key_is_written_leaves_a_folder_that_can_be_used(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", killed)
            patch.setattr(os, "fsync", killed)
            assert call(*WHOLE).code != 0
        assert not Path("judged/replies.key").exists()
        assert call(*WHOLE).code == 0
        assert Path("judged/replies.key").stat().st_mode & 0o777 == 0o600


def test_a_mistake_that_the_server_names_can_be_mended_in_the_same_folder(call: Call) -> None:
    write_files()
    refusal = {"error": {"message": "no such model"}}
    refuses = lambda asked: (404, refusal) if asked["model"] == "n" else None  # noqa: E731
    with serving(JudgeServer(knows, refuses=refuses)) as server:
        write_rules(server.url, model="n")
        assert call(*WHOLE).code == 2
        write_rules(server.url)
        assert call(*WHOLE).code == 0


def test_what_cannot_be_judged_is_said_before_anybody_is_asked(call: Call) -> None:
    write_files()
    write_rules("http://127.0.0.1:9/v1")
    write("few.jsonl", [{"id": "1", "question": "Why?", "answer": right(1)}])
    cases = {
        FILES: "got 0 right answers",
        (*FILES, "--controls", "few.jsonl"): "7 controls of one kind",
        ("judge", "--answers", "ours.jsonl", "--rubric", "remote.yaml"): "--against: expected one file",
        (*WHOLE, "--run", "x"): "--run: expected a run, or --answers",
        (*WHOLE, "--set", "judging.against=[base]"): "--set judging.against",
        (*WHOLE, "--rubric", "nope"): "judges/nope",
        ("judge", "--questions", "right.jsonl"): "--questions: expected --answers beside it",
        ("judge", "--answers", "gone.jsonl", *FILES[3:]): "gone.jsonl",
    }
    for words, line in cases.items():
        told = call(*words)
        assert told.code == 2 and line in told.err.splitlines()[-1], told.err
        assert not Path("judged").exists()
    write_rules("http://192.0.2.1/v1")
    assert "--allow-egress" in call(*WHOLE).err and not Path("judged").exists()


# ---- people


def write_table(rows: list[tuple[str, ...]], *head: str) -> None:
    with Path("people.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def test_people_agree_with_the_judge_or_not(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        assert call(*WHOLE).code == 0
    verdicts = [(f"q{n}", "ours" if n % 4 else "tie") for n in range(COUNT)]
    write_table(verdicts, "prompt", "winner")
    same = call("judge", "validate", "--out", "judged", "--human", "people.csv", "--json")
    (people,) = json.loads(same.out)["people"]
    assert same.code == 0 and people["kappa"] == 1.0 == people["agreement"] and 0.5 < people["lower"] < 1
    assert (people["verdicts"], people["prompts"], people["unscored"]) == (COUNT, COUNT, 0)
    assert json.loads(Path("judged/human.json").read_text())["counts"]["arm"]["arm"] == 27
    turned = [
        (prompt, "theirs", "ours", winner) for prompt, winner in verdicts[:8]
    ]  # the sides the other way
    write_table(turned, "prompt", "arm", "against", "winner")
    few = call("judge", "validate", "--out", "judged", "--human", "people.csv")
    assert few.code == 0 and "kappa with people" in few.out and "too few: 8 prompts" in few.out
    assert "note: " not in same.err and "judged/human.json takes the place of the comparison" in few.err
    flipped = [(prompt, {"ours": "theirs"}.get(winner, winner)) for prompt, winner in verdicts]
    write_table(flipped, "prompt", "winner")
    other = call("judge", "validate", "--out", "judged", "--human", "people.csv", "--json")
    assert json.loads(other.out)["people"][0]["agreement"] == 0.25
    bad = {
        ("q0", "ours"): None,
        ("q99", "ours"): "people.csv:3: prompt: expected an id of judged/judgements.jsonl, got another text",
        ("q1", "mine"): "people.csv:3: winner: expected ours, theirs or tie",
        ("", "ours"): "people.csv:3: prompt:",
    }
    for row, line in bad.items():
        write_table([("q2", "ours"), row], "prompt", "winner")
        told = call("judge", "validate", "--out", "judged", "--human", "people.csv")
        assert (told.code == 0) if line is None else (told.code == 2 and line in told.err)
    secret = "user: my name is Anna Schmidt"
    for row, head in (
        ((secret, "ours"), ("prompt", "winner")),
        (("q1", secret, "theirs", "tie"), ("prompt", "arm", "against", "winner")),
    ):
        write_table([row], *head)
        told = call("judge", "validate", "--out", "judged", "--human", "people.csv")
        assert told.code == 2 and "people.csv:2: " in told.err and "Anna" not in told.err
    write_table([("q1", "ours"), ("q1", "tie")], "prompt", "winner")
    assert (
        "people.csv:3: expected one verdict"
        in call("judge", "validate", "--out", "judged", "--human", "people.csv").err
    )
    write_table([("q1", "ours", "a"), ("q1", "tie", "b")], "prompt", "winner", "rater")
    assert call("judge", "validate", "--out", "judged", "--human", "people.csv").code == 0
    write_table([("q1", "ours", "a"), ("q1", "ours", "")], "prompt", "winner", "rater")  # the same person?
    unnamed = call("judge", "validate", "--out", "judged", "--human", "people.csv")
    assert unnamed.code == 2 and "people.csv:3: rater: expected a person" in unnamed.err


def test_the_result_reads_as_a_judgement(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        told = call(*WHOLE, "--json")
    found = json.loads(told.out)
    assert found["written"] == "judged/" and found["distinct_prompts"] == COUNT
    beside = ("written", "distinct_prompts", "asked_now")
    kept = {key: value for key, value in found.items() if key not in beside}
    assert Judgement.from_json(kept, "stdout").asked is not None
