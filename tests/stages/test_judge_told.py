"""What a command says of a judge: who it is, whether it was asked now, and which ones were tried."""

import json
import shutil
from pathlib import Path

import pytest
from judge_server import FIRST_WAIT, JudgeServer, serving
from test_judge import QUIET, FakeJudge, run_dir
from test_judge import knows as by_text
from test_judge_outside import WHOLE, knows, right, write, write_files, write_rules
from typed import Call

from dpaudit.commands import judged
from dpaudit.findings.human import HumanAgreement
from dpaudit.models import served
from dpaudit.stages import judge, judge_tries
from dpaudit.stages.judge_replies import REPLIES, Way
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

__all__ = ["run_dir"]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", FIRST_WAIT)


def test_kept_replies_are_told_from_new_ones_with_their_dates(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url, model="default")
        first = call(*WHOLE)
        count = len(server.requests)
    assert first.code == 0, first.err
    assert f"replies: {count} asked now (given 20" in first.out
    assert "the name 'default' does not say which model judged" in first.out
    again = call(*WHOLE)  # the server is gone
    assert again.code == 0, again.err
    assert f"replies: nobody was asked now, {count} of {count} from kept replies (given 20" in again.out
    summary = json.loads(Path("judged/summary.json").read_text())
    assert summary["asked"]["oldest"] <= summary["asked"]["newest"] and summary["model"] == "default"
    assert any("'default'" in note for note in summary["notes"])
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url, model="m-7b")
        named = call(*WHOLE, "--out", "named")
    assert named.code == 0 and "does not say which model" not in named.out


def test_every_judge_that_was_tried_stays_listed_with_its_model(
    run_dir: tuple[RunDir, Plan], call: Call, tmp_path: Path
) -> None:
    run, plan = run_dir
    judge.validate(run, plan, QUIET)
    judge.validate(run, plan, QUIET, way=Way(again=True))  # the same again is no other try
    (first,) = judge_tries.of(run)
    assert (first.rubric, first.fit, first.replies) == ("toy", False, run_replies(run))
    assert first.reasons and first.oldest is not None and not Path(first.model).is_absolute()
    other = tmp_path / "other.yaml"
    rules = (tmp_path / "toy.yaml").read_text()
    other.write_text(rules.replace("minimum: 0.6", "minimum: 0.01, confidence: 0.01"))
    told = call(
        "judge", "validate", "--run", run.name, "--runs", str(run.path.parent), "--rubric", str(other)
    )
    assert len(judge_tries.of(run)) == 2 and judge_tries.of(run)[0] == first
    assert "nobody was asked now" in told.out and "judges tried" in told.out
    assert run.read_json("judge/tries.json")["tries"][0]["reasons"] == list(first.reasons)


def run_replies(run: RunDir) -> int:
    return len(run.file(REPLIES).read_text().splitlines())


def test_a_passport_is_told_in_words_with_passed_or_failed_for_each_kind(call: Call) -> None:
    write_files()
    with serving(JudgeServer(lambda *_: "[[A]]")) as server:
        write_rules(server.url)
        unfit = call(*WHOLE)
    assert unfit.code == 4 and "not fit since\n" in unfit.out and "; " not in unfit.out
    told = call("judge", "validate", "--out", "judged").out
    rows = [line for line in told.splitlines() if line.startswith("wrong drug ")]
    assert len(rows) == 1 and rows[0].endswith("  failed")
    assert "first: 100.0 % of verdicts for one answer" in told and "a right answer against" in told
    assert "wordings" not in told and told.count("lower limit 0.") > 2  # a line for each reason
    found = json.loads(call("judge", "validate", "--out", "judged", "--json").out)
    assert found["first"] == 1.0 and found["accuracy"]["estimate"] == 0.5


def test_another_rubric_tells_which_win_rates_it_hides_and_a_replay_leaves_them(
    run_dir: tuple[RunDir, Plan], call: Call, tmp_path: Path
) -> None:
    run, plan = run_dir
    named = ("--run", run.name, "--runs", str(run.path.parent))
    judge.run(run, plan, QUIET, judge=FakeJudge(by_text))
    kept = run.file(judge.JUDGEMENTS).read_bytes()
    assert kept and "note:" not in call("judge", "validate", *named).err  # the same rubric hides nothing
    other = tmp_path / "other.yaml"
    other.write_text((tmp_path / "toy.yaml").read_text().replace("name: toy", "name: other"))
    told = call("judge", "validate", *named, "--rubric", str(other))
    assert "the win rates of rubric toy (model" in told.err and "brings them back" in told.err
    refused = call("judge", "replay", *named)
    assert refused.code == 2 and "validated since" in refused.err and "--rubric toy" in refused.err
    assert run.file(judge.JUDGEMENTS).read_bytes() == kept


def test_settings_that_stay_in_force_are_told_with_their_date(
    run_dir: tuple[RunDir, Plan], call: Call
) -> None:
    run, _ = run_dir
    told = call("judge", "--run", run.name, "--runs", str(run.path.parent), "--prompts", "4")
    assert "at most 4 prompts, against inf, base" in told.out and "until others are typed" in told.out


def test_a_forecast_of_likelihoods_counts_each_answer_once(run_dir: tuple[RunDir, Plan], call: Call) -> None:
    run, _ = run_dir
    named = ("--run", run.name, "--runs", str(run.path.parent))
    told = json.loads(call("judge", *named, "--dry-run", "--json").out)
    assert told["calls_for_answers"] == 3 * 5 and told["asked_where"].startswith("on this machine")


def test_a_forecast_of_controls_asks_and_writes_nothing_and_needs_no_arm(
    run_dir: tuple[RunDir, Plan], call: Call, tmp_path: Path
) -> None:
    run, _ = run_dir
    named = ("judge", "validate", "--run", run.name, "--runs", str(run.path.parent))
    for arm in ("sft-inf", "sft-eps8"):
        shutil.rmtree(run.file(f"train/{arm}"))
    before = files(run)
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        told = call(*named, "--rubric", "remote.yaml", "--dry-run", "--json")
        assert told.code == 0 and not server.requests and files(run) == before, told.err
        ahead = json.loads(told.out)
        assert ahead["controls"] > 50 and ahead["pairs"] == ahead["calls_for_answers"] == 0
        assert ahead["tokens_in"] > 0 and ahead["answered_before"] == 0
        rows = json.loads(call(*named, "--rubric", "remote.yaml", "--json").out)["controls"]
        assert len(server.requests) == ahead["calls_for_controls"]
    assert ahead["not_tested"] == {row["control"]: row["controls"] for row in rows if not row["tested"]}
    after = json.loads(call(*named, "--dry-run", "--json").out)
    assert (after["calls_for_controls"], after["answered_before"]) == (0, ahead["calls_for_controls"])
    beside = call(*named, "--dry-run", "--human", "people.csv")
    assert beside.code == 2 and "--human, which asks nobody" in beside.err


def files(run: RunDir) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in run.path.rglob("*") if file.is_file()}


def test_a_refusal_names_what_differs_and_what_is_too_few(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        assert call(*WHOLE).code == 0
        write_rules(server.url, model="another")
        assert "got another result, with other rubric or model;" in call(*WHOLE).err
        write_rules(server.url)
        fewer = call(*WHOLE, "--prompts", "30")
        assert "with other answers, right answers or number of prompts;" in fewer.err
        write("right.jsonl", [{"id": f"q{n}", "reference": right(n)} for n in range(5)])
        few = call(*WHOLE, "--out", "few")
    assert "7 controls of one kind" in few.err and "swapped dose" in few.err


def test_one_verdict_of_the_judge_makes_kappa_nothing_and_sides_have_their_names() -> None:
    counts = {"arm": {"arm": 6, "against": 0, "tie": 0}, "against": {"arm": 2, "against": 0, "tie": 0}}
    counts["tie"] = {"arm": 0, "against": 0, "tie": 0}
    shares = {"agreement": 0.75, "agreement_lower": 0.4, "agreement_upper": 0.9}
    found = HumanAgreement(
        "r",
        0.0,
        -0.1,
        0.1,
        **shares,
        verdicts=8,
        prompts=8,
        judged=20,
        unscored=0,
        is_few=True,
        counts=counts,
    )
    told = judged.people(found, ("ours", "theirs"))
    assert "kappa is then 0" in told["kappa_note"] and told["people_saw"] == "8 of 20 judged prompts"
    assert told["people_counts"][1] == {
        "people said": "theirs",
        "judge said ours": 2,
        "judge said theirs": 0,
        "judge said tie": 0,
    }
    counts["against"] = {"arm": 0, "against": 2, "tie": 0}
    assert "kappa_note" not in judged.people(found)


def test_what_was_asked_and_when_is_told_in_words_and_a_folder_is_named(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows)) as server:
        write_rules(server.url)
        done = call(*WHOLE)
        count = len(server.requests)
    line = next(line for line in done.out.splitlines() if line.startswith("asked: "))
    assert f"{count} questions, {count} replies, " in line and f"Verdicts read: {count} as text" in line
    assert line.endswith("Without a verdict: none")
    for command in ("replay", "validate"):
        lost = call("judge", command)
        assert lost.code == 2 and "--out judged names the result of two files" in lost.err
    passport = call("judge", "validate", "--out", "judged").out
    assert "replies: nobody was asked now" in passport and "(given 20" in passport
    assert "of verdicts for one answer are for the one shown first (fair: half)" in passport


def test_a_mistake_in_a_rubric_names_no_file_that_is_not_there(call: Call) -> None:
    write_files()
    with serving(JudgeServer(knows, fault=lambda *_: "500")) as server:
        write_rules(server.url, retries=0)
        told = call(*WHOLE)
    assert told.code == 3 and "rubric remote: base_url" in told.err and "judges/remote" not in told.err


def test_a_judge_that_takes_the_place_of_another_says_so_first(
    run_dir: tuple[RunDir, Plan], call: Call, tmp_path: Path
) -> None:
    run, plan = run_dir
    named = ("--run", run.name, "--runs", str(run.path.parent))
    judge.run(run, plan, QUIET, judge=FakeJudge(by_text))
    other = tmp_path / "other.yaml"
    other.write_text((tmp_path / "toy.yaml").read_text().replace("name: toy", "name: other"))
    told = call("judge", *named, "--rubric", str(other)).err
    assert told.index("the win rates of rubric toy (model") < told.index("judging")
