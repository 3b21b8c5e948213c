"""Prompts with criteria of their own, judged behind a server on this machine: two files, and a run."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from judge_server import FIRST_WAIT, JudgeServer, serving
from test_judge import ANSWERS, QUIET, toy_run
from test_judge_outside import COUNT, FILES, MADE, RIGHT, content, question, write, write_files
from test_judge_outside import write_rules as write_rubric
from test_judge_replies import AGAIN, weighted, write_rules
from typed import Call

from dpaudit.errors import UsageError
from dpaudit.findings.judgement import Judgement
from dpaudit.models import served
from dpaudit.stages import judge, judge_forecast, judge_prompts
from dpaudit.stages.judge_replies import Way
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

OWN = (*FILES, "--questions", "right.jsonl", "--criteria", "hb.jsonl")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", FIRST_WAIT)


def grades(text: str) -> str:
    """Knows the right answers, and which mention tea."""
    answer, criterion = text.partition("<a>")[2].split("</a>\n")
    is_right = answer in RIGHT or answer.startswith(ANSWERS)
    met = {"It is right.": is_right, "It is wrong.": not is_right, "It is short.": False}
    return "[[met]]" if met.get(criterion, "Tea" in answer) else "[[not met]]"


def rubrics(number: int) -> list[dict[str, Any]]:
    """Of two kinds: only the second one is met by tea, which costs more there than all that can be earned."""
    own = (
        [("It is right.", 4), ("It names a dose.", -1)] if number % 2 else [("It is right.", 2), ("Tea.", -4)]
    )
    return [{"criterion": text, "points": points, "tags": []} for text, points in own]


def write_prompts(change: str = "", least: int = 0) -> None:
    rows = [
        {"prompt_id": f"q{n}", "prompt": question(max(least, n)), "rubrics": rubrics(n)} for n in range(COUNT)
    ]
    Path("hb.jsonl").write_text(
        "".join(json.dumps(row).replace("names a dose", change or "names a dose") + "\n" for row in rows)
    )


def test_two_files_are_scored_by_the_criteria_of_each_prompt(call: Call) -> None:
    write_files()
    write_prompts()
    rows = [json.loads(line) for line in Path("ours.jsonl").read_text().splitlines()]
    write("ours.jsonl", [row | {"finish_reason": ("stop", "length")[n % 2]} for n, row in enumerate(rows)])
    with serving(JudgeServer(lambda *_: "", reads=grades)) as server:
        write_rubric(server.url, **weighted(5, 1, -3))
        ahead = json.loads(call(*OWN, "--dry-run", "--json").out)
        done = call(*OWN, "--json")
        assert done.code == 0, done.err
        assert len(server.requests) == ahead["calls_for_controls"] + ahead["calls_for_answers"]
        assert set(server.answered.values()) == {1}
    found = json.loads(done.out)
    (pair,) = found["pairs"]
    ours = [float(n % 4 != 0) for n in range(COUNT)]  # an answer without a right word scores 0
    theirs = [-1 / 4 if n % 2 else -4 / 2 for n in range(COUNT)]
    assert (pair["wins"], pair["ties"], pair["losses"], pair["unscored"]) == (COUNT, 0, 0, 0)
    scores = pair["scores"]
    assert scores["arm"] == pytest.approx(sum(ours) / COUNT) and scores["against"] == 0.0
    difference = sum(a - b for a, b in zip(ours, theirs, strict=True)) / COUNT
    assert scores["difference"] == pytest.approx(difference)
    assert scores["lower"] < difference < scores["upper"] and scores["clipped"] == ["theirs"]
    assert "the judge is proven on the criteria of its rubric, not on those of hb.jsonl" in pair["cautions"]
    assert "the mean score of theirs is below 0 and stands as 0" in pair["cautions"]
    assert "50% of the answers of ours were cut at their limit" in pair["cautions"]
    assert (pair["arm_cut"], pair["against_cut"]) == (0.5, None)
    text = call(*OWN)
    assert "mean score" in text.out and f"+{difference:.3f}" in text.out
    assert "cut answers: ours 18 of 36, theirs not known (its rows have no finish_reason)" in text.out
    before = content()

    for name in (*MADE, "hb.jsonl", "ours.jsonl", "theirs.jsonl", "right.jsonl", "remote.yaml"):
        (Path("judged") / name if name in MADE else Path(name)).unlink()
    assert call("judge", "replay", "--out", "judged").out == text.out and content() == before
    write_files()
    write("ours.jsonl", [row | {"finish_reason": ("stop", "length")[n % 2]} for n, row in enumerate(rows)])
    write_rubric("http://127.0.0.1:9/v1", **weighted(5, 1, -3))
    write_prompts("names no dose")
    other = call(*OWN)
    assert other.code == 2 and "another result, with other criteria of the prompts" in other.err
    assert content() == before


def test_criteria_that_do_not_fit_are_refused_before_anybody_is_asked(call: Call) -> None:
    write_files()
    write_prompts()
    write_rubric("http://127.0.0.1:9/v1", **weighted(5, 1, -3))
    rows = [json.loads(line) for line in Path("hb.jsonl").read_text().splitlines()]
    write("few.jsonl", rows[:-1])
    write("bad.jsonl", [rows[0], rows[1] | {"rubrics": []}, rows[0]])
    for file, line in (
        ("few.jsonl", "none for the id q35 (1 of 36 prompts without)"),
        ("bad.jsonl", "bad.jsonl:2: rubrics: expected a list of criteria"),
        ("gone.jsonl", "gone.jsonl"),
    ):
        told = call(*OWN[:-1], file)
        assert told.code == 2 and line in told.err and not Path("judged").exists()
    assert "bad.jsonl:3: prompt_id: expected an id that occurs once" in call(*OWN[:-1], "bad.jsonl").err
    write_rubric("http://127.0.0.1:9/v1")
    told = call(*OWN)
    assert told.code == 2 and "--criteria hb.jsonl: expected a rubric of weighted criteria" in told.err


# ---- a run


@pytest.fixture
def run_dir(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path) -> tuple[RunDir, Plan]:
    rules = write_rules(tmp_path, "http://127.0.0.1:9/v1", **weighted(5, 1, -3))
    return toy_run(toy_model_dir, toy_adapter_dir, tmp_path, rules)


def test_the_models_of_a_run_answer_the_prompts_of_the_file(
    run_dir: tuple[RunDir, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other points ask nothing again; another text of a criterion asks for this one alone. A prompt that
    stands there twice is one draw.
    """
    run, before = run_dir
    monkeypatch.chdir(tmp_path)
    write_prompts(least=1)
    plan = before.with_settings({"judging.criteria": "hb.jsonl"}, "test")
    settings = plan.suite.judging
    assert settings is not None
    with serving(JudgeServer(lambda *_: "", reads=grades)) as server:
        write_rules(tmp_path, server.url, **weighted(5, 1, -3))
        ahead = judge_forecast.forecast(run, plan, settings, AGAIN)
        assert ahead.unwritten == 3 * 5  # models, prompts
        assert ahead.calls_for_answers == 3 * (2 * 5 - 1)  # criteria, of which two prompts have one in common
        judge.run(run, plan, QUIET, way=AGAIN)
        asked = len(server.requests)
        write_prompts("names no dose", least=1)
        judge.run(run, plan, QUIET, way=AGAIN)
        new = [one for one in server.requests[asked:] if "names no dose" in one["messages"][0]["content"]]
        assert len(new) == len(server.requests) - asked and 0 < len(new) <= 3 * 2
        write_prompts(least=1)
        wordy = {"prompt": question(9) + " Why?" * 500, "rubrics": rubrics(1)}
        write("wordy.jsonl", [{"prompt_id": "w"} | wordy])
        with pytest.raises(UsageError, match=r"wordy.jsonl: expected prompts of at most .* got 1 longer"):
            judge.run(
                run, before.with_settings({"judging.criteria": "wordy.jsonl"}, "test"), QUIET, way=AGAIN
            )
    found = Judgement.read(run, judge.SUMMARY)
    rows = run.read_lines(judge.JUDGEMENTS)
    assert {(row["id"], row["prompt"]) for row in rows} == {(f"q{n}", f"q{n - (n == 1)}") for n in range(5)}
    assert {(pair.prompts, pair.facts) for pair in found.pairs} == {(4, 4)}
    assert all(pair.scores is not None and pair.correct is None for pair in found.pairs)
    assert found.no_examples and "hb.jsonl" in found.no_examples and not found.examples
    assert found.limit_from.startswith("as the suite declares")
    assert "not on those of hb.jsonl" in found.pairs[0].cautions[0]
    assert found.pairs[0].cautions[1] == f"5 of the {COUNT} prompts of hb.jsonl are judged"
    assert not run.file(judge_prompts.ANSWERS).exists()  # those to held-out prompts are other ones

    Path("hb.jsonl").write_text(Path("hb.jsonl").read_text().replace('"points": 4', '"points": 9'))
    write_rules(tmp_path, "http://127.0.0.1:9/v1", **weighted(5, 1, -3))  # nobody is there
    judge.run(run, plan, QUIET, way=AGAIN)
    made = Judgement.read(run, judge.SUMMARY)
    Path("hb.jsonl").unlink()
    judge.run(run, plan, QUIET, way=Way(is_offline=True))
    assert Judgement.read(run, judge.SUMMARY).to_json() == made.to_json()


def test_a_kill_loses_no_reply_and_what_is_kept_is_not_asked_again(call: Call) -> None:
    """kill -9 while criteria are asked: the same command, typed again, asks what is missing and nothing else,
    and its figures are those of an unbroken one.
    """
    write_files()
    write_prompts()
    command = (*OWN, "--set", "judging.parallel=4", "--json")
    with serving(JudgeServer(lambda *_: "", reads=grades)) as server:
        write_rubric(server.url, **weighted(5, 1, -3))
        whole = json.loads(call(*command).out)
    shutil.rmtree("judged")
    with serving(JudgeServer(lambda *_: "", reads=grades, seconds=0.02)) as server:
        write_rubric(server.url, **weighted(5, 1, -3))
        kept = kill_when_most_is_answered(command, whole["asked"]["replies"] - 40)
        answered, asked = dict(server.answered), dict(server.asked)
        done = call(*command)
        assert done.code == 0, done.err
        again = [text for text in answered if server.asked[text] > asked[text]]
    assert kept < whole["asked"]["replies"]
    assert len(again) <= sum(answered.values()) - kept <= 4  # those under way when it was killed
    for told in (found := json.loads(done.out), whole):
        del told["asked_now"], told["asked"]["oldest"], told["asked"]["newest"]
    assert found == whole


def kill_when_most_is_answered(command: tuple[str, ...], count: int) -> int:
    """Starts the command and kills it with so many replies kept: the controls are through, and prompts are
    asked. How many replies it kept comes back, once the server has ended what it had begun.
    """
    replies, root = Path("judged") / ".replies", Path(__file__).parents[2]
    words = [sys.executable, "-m", "dpaudit", *command]
    begun = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE)
    while lines(replies) < count:
        assert begun.poll() is None
        time.sleep(0.01)
    begun.kill()
    begun.communicate()
    time.sleep(0.2)
    return lines(replies)


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0
