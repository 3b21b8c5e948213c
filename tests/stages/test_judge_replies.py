"""A run judged behind a server that fails: what is kept, what is asked again, and what needs no server."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from judge_server import FIRST_WAIT, HANG, PROMPT, JudgeServer, at_rate, likelihoods, serving
from test_judge import ANSWERS, QUIET, toy_run
from typed import Call

from dpaudit.data.corpus import Turn
from dpaudit.errors import PartialError, UsageError
from dpaudit.findings.judgement import Judgement, Passport
from dpaudit.judging.rubric import Comparison, Rubric
from dpaudit.judging.verdicts import Labels
from dpaudit.models import served
from dpaudit.stages import judge, judge_forecast
from dpaudit.stages.judge_replies import REPLIES, Asker, Way, depends_on, kept_of
from dpaudit.storage import seals
from dpaudit.storage.custody import SEAL_KEY
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging

MADE = (judge.PASSPORT, judge.JUDGEMENTS, judge.SUMMARY)
AGAIN = Way(again=True)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", FIRST_WAIT)


def knows(first: str, second: str) -> str:
    """A perfect judge."""
    right = first in ANSWERS, second in ANSWERS
    return "[[tie]]" if right[0] == right[1] else "[[A]]" if right[0] else "[[B]]"


def write_rules(folder: Path, url: str, repeats: int = 0, **changes: Any) -> Path:
    known = {"model": "m", "prompt": PROMPT, "base_url": url, "timeout": 30.0, "max_new_tokens": 20}
    rules = {"name": "remote", "title": "Remote", "kind": "endpoint", "retries": 4, **known, **changes}
    file = folder / "remote.yaml"
    controls = {"count": 12, "least": 7, "minimum": 0.6, "repeats": repeats}
    file.write_text(yaml.safe_dump(rules | {"controls": controls}))
    return file


@pytest.fixture
def run_dir(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path) -> tuple[RunDir, Plan]:
    rules = write_rules(tmp_path, "http://127.0.0.1:9/v1")
    return toy_run(toy_model_dir, toy_adapter_dir, tmp_path, rules)


def made(run: RunDir) -> dict[str, Any]:
    """What the judge's figures are, without hashes of the rubric, which names its server."""
    found: dict[str, Any] = {"rows": run.read_lines(judge.JUDGEMENTS)}
    return found | {
        "passport": Passport.read(run, judge.PASSPORT).to_json(),
        "summary": Judgement.read(run, judge.SUMMARY).to_json(),
    }


def test_a_perfect_judge_behind_faults_stays_perfect_and_its_replies_make_every_figure_again(
    run_dir: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run, plan = run_dir
    settings = plan.suite.judging or Judging()
    with serving(JudgeServer(knows, at_rate(0.1, faults=("500", "cut", "no choices", "html")))) as server:
        write_rules(tmp_path, server.url)
        ahead = judge_forecast.forecast(run, plan, settings, AGAIN)
        assert not server.requests and not run.file("judge").exists()
        judge.run(run, plan, QUIET, way=AGAIN)
    first = made(run)
    summary = Judgement.read(run, judge.SUMMARY)
    assert summary.fit and summary.passport.unscored == 0 and summary.asked is not None
    assert {rate.rate for rate in summary.passport.faults.values()} == {1.0}
    assert {(pair.win_rate, pair.unscored) for pair in summary.pairs} == {(0.5, 0)}
    calls = ahead.calls_for_controls + ahead.calls_for_answers
    assert sum(server.answered.values()) == summary.asked.comparisons <= calls  # equal answers once
    assert ahead.unwritten == 3 * 5 and summary.asked.tokens_in < ahead.tokens_in * 3
    assert summary.asked.replies > summary.asked.comparisons and summary.asked.tokens_out > 0
    assert not any(answer in run.file(name).read_text() for answer in ANSWERS for name in MADE)
    assert run.file(REPLIES).stat().st_mode & 0o777 == 0o600

    with serving(JudgeServer(knows)) as other:  # another port, another budget: nothing is asked
        write_rules(tmp_path, other.url, retries=0, timeout=9.0)
        judge.run(run, plan, QUIET, way=AGAIN)
        assert not other.requests and made(run) == first
        again = judge_forecast.forecast(run, plan, settings, AGAIN)
        assert (again.calls_for_controls, again.calls_for_answers, again.unwritten) == (0, 0, 0)
        assert again.answered_before == summary.asked.comparisons

    for name in MADE:
        run.file(name).unlink()
    judge.run(run, plan, QUIET, way=Way(is_offline=True))  # no server is there
    assert made(run) == first
    lines = run.file(REPLIES).read_bytes().splitlines(keepends=True)
    run.file(REPLIES).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(UsageError, match=r"\.replies: .* got 1 without one; type `dpaudit judge --run run`"):
        judge.run(run, plan, QUIET, way=Way(is_offline=True))
    run.file(judge.ANSWERS).unlink()
    with pytest.raises(UsageError, match=r"answers\.jsonl: .* got 15 too few; type `dpaudit judge"):
        judge.run(run, plan, QUIET, way=Way(is_offline=True))


def test_what_stopped_half_way_goes_on_where_it_was(run_dir: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run, plan = run_dir
    down = iter(range(10**6))
    with serving(JudgeServer(knows, lambda *_: "503" if next(down) >= 60 else None)) as server:
        write_rules(tmp_path, server.url, retries=0)
        with pytest.raises(PartialError, match="503"):
            judge.validate(run, plan, QUIET)
        kept = dict(server.answered)
        assert len(kept) == 60 == len(run.file(REPLIES).read_text().splitlines())
        with run.file(REPLIES).open("ab") as file:
            file.write(b'{"asked": "half a li')  # as a kill leaves it
        server.fault = lambda *_: None
        assert judge.validate(run, plan, QUIET)
    assert all(server.asked[text] == 1 for text in kept) and set(server.answered.values()) == {1}


def test_what_was_left_unscored_is_asked_again_by_the_next_command(
    run_dir: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run, plan = run_dir
    with serving(JudgeServer(knows, lambda text, _: "empty" if ANSWERS[0] in text else None)) as server:
        write_rules(tmp_path, server.url, retries=0)
        assert not judge.validate(run, plan, QUIET)
        before = Passport.read(run, judge.PASSPORT)
        server.fault = lambda *_: None
        assert not judge.validate(run, plan, QUIET)  # typed again as part of a run: what is done is done
        assert judge.validate(run, plan, QUIET, way=AGAIN)
        asked = len(server.requests)
        assert judge.validate(run, plan, QUIET, way=AGAIN)
    assert before.unscored > 0 == Passport.read(run, judge.PASSPORT).unscored
    assert len(server.requests) == asked
    assert 0 < asked - sum(server.answered.values()) <= before.unscored  # equal comparisons are asked once


def test_a_repeat_is_a_request_of_its_own_counted_ahead_and_made_again_from_its_own_reply(
    run_dir: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    """A judge that finds both answers equal whenever it is asked again."""
    run, plan = run_dir
    seen: set[tuple[str, str]] = set()

    def wavers(first: str, second: str) -> str:
        is_new = (first, second) not in seen
        seen.add((first, second))
        return knows(first, second) if is_new else "[[tie]]"

    with serving(JudgeServer(wavers)) as server:
        write_rules(tmp_path, server.url, repeats=10)
        ahead = judge_forecast.forecast(run, plan, plan.suite.judging or Judging(), AGAIN)
        judge.validate(run, plan, QUIET)
        found = Passport.read(run, judge.PASSPORT)
        assert len(server.requests) == ahead.calls_for_controls
    assert found.repeat is not None and found.repeat.verdicts == 10 and found.repeat.right < 10
    run.file(judge.PASSPORT).unlink()
    judge.validate(run, plan, QUIET, way=Way(is_offline=True))
    assert Passport.read(run, judge.PASSPORT) == found


def test_an_allowance_counts_what_was_taken_before(run_dir: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run, plan = run_dir
    with serving(JudgeServer(knows)) as server:
        write_rules(tmp_path, server.url)
        for most in (2000, 2000, 4000):
            with pytest.raises(PartialError, match=f"could pass {most} tokens"):
                judge.validate(run, plan, QUIET, way=Way(max_tokens_total=most))
            taken = sum(len(text) * count + 7 * count for text, count in server.answered.items())
            assert most - 400 < taken <= most
    assert set(server.asked.values()) == {1}


def test_tokens_of_a_local_judge_are_not_limited(toy_model_dir: Path, tmp_path: Path) -> None:
    rules = Rubric("toy", "Toy", "likelihood", model=str(toy_model_dir))
    with pytest.raises(UsageError, match=r"--max-tokens-total: expected a rubric of kind endpoint"):
        Asker(kept_of(RunDir(tmp_path)), rules, Judging(max_tokens_total=5), 96)


CRITERIA = "<q>{question}</q>\n<a>{answer}</a>\n{criterion}"


def weighted(*points: float) -> dict[str, Any]:
    """Keys of a rubric: its first criterion is met by what is known, its last by what is not."""
    names = ("It is right.", "It is short.", "It is wrong.")
    given = [{"criterion": name, "points": value} for name, value in zip(names, points, strict=True)]
    return {
        "prompt": CRITERIA,
        "criteria": given,
        "labels": {"first": "[[met]]", "second": "[[not met]]", "tie": ""},
        "swap": False,
    }


def grades(text: str) -> str:
    is_right = text.partition("<a>")[2].partition("</a>")[0].startswith(ANSWERS)
    is_met = is_right if text.endswith("right.") else not is_right and text.endswith("wrong.")
    return "[[met]]" if is_met else "[[not met]]"


def test_criteria_are_asked_once_of_each_answer_and_their_points_are_no_question(
    run_dir: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run, plan = run_dir
    settings = plan.suite.judging or Judging()
    with serving(JudgeServer(lambda *_: "", reads=grades)) as server:
        write_rules(tmp_path, server.url, **weighted(5, 1, -3))
        ahead = judge_forecast.forecast(run, plan, settings, AGAIN)
        judge.run(run, plan, QUIET, way=AGAIN)
        summary = Judgement.read(run, judge.SUMMARY)
        assert (
            summary.fit and summary.asked is not None and summary.asked.forms == {"text": len(server.asked)}
        )
        assert set(server.answered.values()) == {1} and summary.asked.comparisons == len(server.asked)
        assert ahead.unwritten == 3 * 5 and ahead.calls_for_answers == 3 * 3 * 5  # models, criteria, prompts
        assert ahead.calls_for_controls <= len(server.asked) <= ahead.calls_for_controls + 3 * 3 * 5
        again = judge_forecast.forecast(run, plan, settings, AGAIN)
        assert (again.calls_for_controls, again.calls_for_answers, again.unwritten) == (0, 0, 0)
        assert again.answered_before == len(server.asked)
    margins = [row["margin"] for row in run.read_lines(judge.JUDGEMENTS)]
    write_rules(tmp_path, "http://127.0.0.1:9/v1", **weighted(2, 1, -9))  # nobody is there
    judge.run(run, plan, QUIET, way=AGAIN)
    assert Judgement.read(run, judge.SUMMARY).asked == summary.asked
    judge.run(run, plan, QUIET, way=Way(is_offline=True))
    assert [
        row["margin"] for row in run.read_lines(judge.JUDGEMENTS)
    ] == margins  # no answer of the toy is right
    write_rules(tmp_path, "http://127.0.0.1:9/v1", retries=0, **weighted(2, 1, -9) | {"verdict": "choice"})
    with pytest.raises(PartialError, match="no connection"):
        judge.run(run, plan, QUIET, way=AGAIN)


@pytest.mark.parametrize("form", ["choice", "logprobs"])
def test_every_form_of_a_verdict_is_read_again_from_what_was_kept(
    run_dir: tuple[RunDir, Plan], tmp_path: Path, form: str
) -> None:
    run, plan = run_dir
    with serving(JudgeServer(knows, tells=likelihoods)) as server:
        write_rules(tmp_path, server.url, verdict=form)
        assert judge.validate(run, plan, QUIET)
    first = Passport.read(run, judge.PASSPORT).to_json()
    run.file(judge.PASSPORT).unlink()
    assert judge.validate(run, plan, QUIET, way=Way(is_offline=True))
    assert Passport.read(run, judge.PASSPORT).to_json() == first


TRANSPORT = {"base_url": "http://127.0.0.1:8/v1", "api_key_env": "KEY", "timeout": 1.0, "retries": 9}
WORDS = {
    "name": "x",
    "title": "X",
    "description": "x",
    "swap": False,
    "max_tokens_as": "max_completion_tokens",
}
JUDGED_BY = {
    "model": "n",
    "prompt": PROMPT + ".",
    "max_new_tokens": 9,
    "temperature": 0.5,
    "verdict": "choice",
}


def test_a_reply_of_a_model_on_this_machine_is_of_the_dtype_too() -> None:
    rules = Rubric("r", "R", "model", model="m", prompt=PROMPT)
    assert depends_on(rules, 96) != depends_on(rules, 96, "bfloat16")
    served_rules = Rubric("r", "R", "endpoint", model="m", prompt=PROMPT, base_url="http://127.0.0.1:9/v1")
    assert depends_on(served_rules, 96) == depends_on(served_rules, 96, "bfloat16")


@pytest.mark.parametrize("key", [*TRANSPORT, *WORDS, *JUDGED_BY, "labels"])
def test_a_reply_is_of_what_decides_it_and_of_nothing_else(key: str) -> None:
    rules = Rubric("r", "R", "endpoint", model="m", prompt=PROMPT, base_url="http://127.0.0.1:9/v1")
    changed = replace(rules, **{key: (TRANSPORT | WORDS | JUDGED_BY | {"labels": Labels(tie="")})[key]})
    is_same = depends_on(changed, 96) == depends_on(rules, 96)
    assert is_same is (key in TRANSPORT | WORDS)


# ---- as it is typed


def figures(out: str) -> list[str]:
    """What is printed, but for whether anybody was asked now."""
    return [line for line in out.splitlines() if not line.startswith("replies:")]


def test_what_it_costs_is_told_before_and_after_and_what_stops_it_has_its_exit_code(
    call: Call, run_dir: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    run, _ = run_dir
    where = ("--runs", str(tmp_path), "--run", run.name)
    records = run.file("records/judging.json").read_bytes()
    with serving(JudgeServer(knows)) as server:
        write_rules(tmp_path, server.url, retries=0)
        ahead = call("judge", *where, "--dry-run", "--set", "judging.prompts=3", "--json")
        assert ahead.code == 0, ahead.err
        told = json.loads(ahead.out)
        assert told["calls_for_controls"] > 100 and told["calls_for_answers"] == 3 * 3 * 2
        assert told["tokens_in"] > 0 and told["tokens_out_at_most"] > 0
        assert not server.requests and run.file("records/judging.json").read_bytes() == records
        stopped = call("judge", *where, "--max-tokens-total", "3000")
        assert stopped.code == 3 and "could pass 3000 tokens" in stopped.err.splitlines()[-1]
        kept = len(server.requests)
        assert kept == len(run.file(REPLIES).read_text().splitlines()) > 3
        server.fault = lambda *_: "401"
        refused = call("judge", *where)
        line = refused.err.splitlines()[-1]
        assert refused.code == 2 and "a key that the server does not know" in line and "api_key_env" in line
        server.fault = lambda *_: "503"
        assert call("judge", *where).code == 3
        server.fault = lambda *_: None
        done = call("judge", *where)
        assert done.code == 0 and " tokens in and " in done.out and "win rate" in done.out
        assert set(server.answered.values()) == {1}
    again = call("judge", "replay", *where)
    assert (again.code, figures(again.out)) == (0, figures(done.out))
    run.file(REPLIES).unlink()
    lost = call("judge", "replay", *where)
    assert lost.code == 2 and lost.out == "" and "without one; type `dpaudit judge" in lost.err
    gone = call("judge", *where, "--set", "judging.prompts=4")
    assert gone.code == 3 and "no connection; see that the server runs" in gone.err


# ---- killed


COUNT = 2000
WORK = """
import json, sys
from test_judge_replies import asker_of, numbered
from dpaudit.system.progress import Progress
asker = asker_of(sys.argv[1], sys.argv[2], int(sys.argv[3]))
outcomes = asker.compare(numbered(), "judging", Progress(quiet=True))
print(json.dumps([outcome.winner for outcome in outcomes]))
"""


def numbered() -> list[Comparison]:
    return [
        Comparison((Turn("user", f"Q{number}"),), *(("1", "0") if number % 3 else ("0", "1")))
        for number in range(COUNT)
    ]


def asker_of(folder: str, url: str, parallel: int) -> Asker:
    """With a server that hangs for longer than the timeout."""
    known: dict[str, Any] = {"model": "m", "prompt": PROMPT, "base_url": url, "timeout": 0.9 * HANG}
    known["retries"] = 6
    return Asker(
        kept_of(RunDir(Path(folder))), Rubric("r", "R", "endpoint", **known), Judging(parallel=parallel), 96
    )


def begun(folder: Path, url: str) -> "subprocess.Popen[str]":
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent, here.parent.parent)))
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder), url, "16"],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_thousand_judgements_survive_faults_and_a_kill(tmp_path: Path) -> None:
    seals.write_seal_key(tmp_path / SEAL_KEY)
    (tmp_path / "judge").mkdir()
    truth = ["first" if number % 3 else "second" for number in range(COUNT)]
    one = lambda first, second: "[[A]]" if first > second else "[[B]]"  # noqa: E731
    faults = at_rate(0.1, faults=("429", "500", "cut", "no choices", "empty", "html", "no verdict", "hang"))
    with serving(JudgeServer(one, faults, seconds=0.02)) as server:
        killed = begun(tmp_path, server.url)
        while sum(server.answered.values()) < COUNT // 2:
            assert killed.poll() is None
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        time.sleep(0.5)
        kept = (tmp_path / REPLIES).read_text().count("\n")
        before, asked = dict(server.answered), dict(server.asked)
        on, _ = begun(tmp_path, server.url).communicate(timeout=300)
    assert json.loads(on) == truth  # none is unscored, and each is right
    again = [text for text in before if server.asked[text] > asked[text]]
    assert len(again) <= 16 and kept >= sum(before.values()) - 16  # those under way when it was killed
    assert sum(server.answered.values()) == COUNT + len(again)


@pytest.mark.slow
def test_sixteen_at_a_time_take_a_tenth_of_the_time(tmp_path: Path) -> None:
    """At 0.2 s a reply, 2,000 replies one after the other take 400 s."""
    seals.write_seal_key(tmp_path / SEAL_KEY)
    (tmp_path / "judge").mkdir()
    with serving(JudgeServer(lambda *_: "[[A]]", seconds=0.2)) as server:
        start = time.monotonic()
        outcomes = asker_of(str(tmp_path), server.url, 16).compare(numbered(), "judging", QUIET)
        assert time.monotonic() - start <= 0.2 * COUNT / 10
    assert {outcome.winner for outcome in outcomes} == {"first"} and server.most_at_once == 16
