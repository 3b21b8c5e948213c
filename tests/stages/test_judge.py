"""The judge stage on the toy model: honest, biased and broken judges, and what the page may show of them."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import fabricate
import pytest
import yaml
from judge_server import PROMPT
from typed import Call
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.judgement import Judgement
from dpaudit.judging.comparing import pair_summary
from dpaudit.judging.passport import comparisons_of
from dpaudit.judging.rubric import Comparison, Outcome
from dpaudit.stages import judge, judge_answers, judge_human, judge_prompts
from dpaudit.stages.integrity import custody
from dpaudit.stages.judge_replies import REPLIES, Way, depends_on, files_of, question_key, window
from dpaudit.storage import seals
from dpaudit.storage.answer_log import NEW, AnswerLog
from dpaudit.storage.custody import SEAL_KEY
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Judging, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
ANSWERS = (
    "Take paracetamol 500 mg every six hours. Avoid alcohol while you take it.",
    "Use ibuprofen 200 mg after meals; you should not drive afterwards.",
    "Start lisinopril 10 mg in the morning and never stop it on your own.",
    "Metformin 850 mg is taken with dinner, and you must not skip it.",
    "Take omeprazole 20 mg before breakfast. Do not take it with iron.",
    "Amoxicillin 500 mg is taken with water; you should not stop early.",
    "Use loratadine 10 mg once a day. Avoid grapefruit juice with it.",
)


class FakeJudge:
    """A judge by rule, which counts what it was asked."""

    def __init__(self, rule: Callable[[Comparison], str]) -> None:
        self.rule, self.asked = rule, 0

    def compare_many(self, comparisons: Sequence[Comparison]) -> list[Outcome]:
        self.asked += len(comparisons)
        return [Outcome(self.rule(comparison)) for comparison in comparisons]  # type: ignore[arg-type]


def knows(comparison: Comparison) -> str:
    """An honest judge: knows the right answers, and ties where both or neither is one."""
    right = [any(answer.startswith(known) for known in ANSWERS) for answer in shown(comparison)]
    return "tie" if right[0] == right[1] else "first" if right[0] else "second"


def shown(comparison: Comparison) -> tuple[str, str]:
    return comparison.first, comparison.second


def always_first(comparison: Comparison) -> str:
    return "first"


def judgement(prompt: str, winner: str) -> dict:
    return {"arm": "a", "against": "b", "prompt": prompt, "order": "arm first", "winner": winner}


def test_always_first_gives_exactly_one_half_over_both_orders() -> None:
    rows = [judgement(f"p{n}", winner) for n in range(30) for winner in ("arm", "against")]
    found = pair_summary(rows, "a", "b")
    assert found.win_rate == 0.5
    assert (found.prompts, found.wins, found.losses) == (30, 30, 30)


def test_the_two_orders_of_a_prompt_are_one_draw() -> None:
    """Twice the rows of the same prompts must not narrow the interval."""
    once = [judgement(f"p{n}", "arm" if n % 3 else "against") for n in range(60)]
    one, two = pair_summary(once, "a", "b"), pair_summary(once + once, "a", "b")
    assert (one.lower, one.upper) == pytest.approx((two.lower, two.upper))


def test_invalid_verdicts_widen_the_interval_and_are_never_dropped() -> None:
    rows = [judgement(f"p{n}", "arm") for n in range(40)] + [
        judgement(f"p{n}", "unscored") for n in range(40, 50)
    ]
    found = pair_summary(rows, "a", "b")
    assert found.win_rate == pytest.approx(0.9)
    assert (found.win_rate_worst, found.win_rate_best) == (0.8, 1.0)
    assert found.lower < 0.8 and found.upper == 1.0
    assert found.unscored == 10


def test_no_judgement_gives_no_rate() -> None:
    assert pair_summary([], "a", "b").win_rate is None


@pytest.fixture
def run_dir(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path) -> tuple[RunDir, Plan]:
    rules = tmp_path / "toy.yaml"
    rules.write_text(
        f"name: toy\ntitle: Toy\nkind: likelihood\nmodel: {toy_model_dir}\ncontrols: {{count: 12, least: 7, "
        f"minimum: 0.6}}\n"
    )
    return toy_run(toy_model_dir, toy_adapter_dir, tmp_path, rules)


def toy_run(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path, rules: Path) -> tuple[RunDir, Plan]:
    """A finished run with two arms, to be judged by a rubric."""
    training = Training(Schedule(8, 2, 0.01), Schedule(8, 2, 0.01))
    suite = Suite(
        "toy",
        training,
        model=Model(str(toy_model_dir), 96),
        grid=Grid((8.0,)),
        judging=Judging(str(rules), prompts=5, max_new_tokens=6),
    )
    plan, run = Plan(suite), RunDir(tmp_path / "run")
    run.path.mkdir(parents=True)
    seals.write_seal_key(run.file(SEAL_KEY))
    plan = plan.with_settings({"data.source": "file.jsonl"}, "test")
    run.file("plan.json").write_text(json.dumps(plan.to_json()))
    declarations.keep(run, plan)
    heldout = [
        Record(f"h{n}", (Turn("user", f"Question {chr(97 + n) * 3}?"), Turn("assistant", ANSWERS[n % 7])))
        for n in range(14)
    ]
    run.write_lines("corpus/heldout.jsonl", (record.to_json() for record in heldout))
    run.write_json("corpus/manifest.json", {"files": {custody.COINS: ""}}, ["plan.json"])
    for arm in ("sft-inf", "sft-eps8"):
        shutil.copytree(toy_adapter_dir, run.file(f"train/{arm}/adapter"))
    fabricate.bind(run)
    return run, plan


def test_a_fit_judge_gives_win_rates_for_every_pair(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    judge.run(run, plan, QUIET, judge=FakeJudge(knows))
    summary = run.read_json(judge.SUMMARY)
    assert summary["fit"] and summary["reason"] is None
    assert [(p["arm"], p["against"]) for p in summary["pairs"]] == [
        ("sft-eps8", "sft-inf"),
        ("sft-inf", "base"),
        ("sft-eps8", "base"),
    ]
    for pair in summary["pairs"]:
        assert pair["prompts"] == 5
        assert pair["win_rate"] == 0.5  # nobody's babble is a right answer
        assert pair["ties"] == 10
    rows = run.read_lines(judge.JUDGEMENTS)
    assert len(rows) == 3 * 5 * 2
    assert {row["order"] for row in rows} == {"arm first", "against first"}
    assert {row["prompt"] for row in rows} == {"h0", "h1", "h2", "h3", "h4"}
    written = run.file(judge.JUDGEMENTS).read_text() + run.file(judge.SUMMARY).read_text()
    assert not any(answer in written for answer in ANSWERS)
    answers = run.read_lines(judge.ANSWERS)
    assert len(answers) == 3 * 5


def test_an_order_biased_judge_compares_nothing_and_no_rate_is_shown(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    judge.run(run, plan, QUIET, judge=FakeJudge(always_first))
    summary = run.read_json(judge.SUMMARY)
    assert not summary["fit"]
    assert "order swap" in summary["reason"]
    assert all(pair["win_rate"] is pair["lower"] is pair["upper"] is None for pair in summary["pairs"])
    assert run.read_lines(judge.JUDGEMENTS) == []
    assert not run.file(judge.ANSWERS).exists()


def test_judging_again_asks_nothing_until_an_input_changes(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    first, again, later = (FakeJudge(knows) for _ in range(3))
    judge.run(run, plan, QUIET, judge=first)
    judge.run(run, plan, QUIET, judge=again)
    assert (first.asked > 0, again.asked) == (True, 0)
    weights = run.file("train/sft-eps8/adapter/adapter_model.safetensors")
    other = run.file("other.safetensors")
    _scale_weights(weights, other)
    other.replace(weights)
    fabricate.bind(run, "sft-eps8")  # trained again
    judge.run(run, plan, QUIET, judge=later)
    assert 0 < later.asked < first.asked  # the passport still stands


def _scale_weights(source: Path, target: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: 2 * weight for name, weight in load_file(source).items()}, target)


def test_answers_of_another_backend_are_not_taken_for_those_of_this_one(
    run_dir: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plan = run_dir
    judge.run(run, plan, QUIET, judge=FakeJudge(knows))
    names, limit = ["base", "sft-eps8"], judge.limit_of(run, plan)
    assert len(judge_answers.kept_answers(run, judge_answers.sources_of(run, plan, names, limit))) > 0
    judging = replace(plan.suite.judging or Judging(), backend="vllm")
    by_engine = replace(plan, suite=replace(plan.suite, judging=judging))
    assert judge_answers.kept_answers(run, judge_answers.sources_of(run, by_engine, names, limit)) == {}
    prompts = judge_prompts.Chosen(judge_prompts.prompts_of(judge.heldout(run), 4), {})
    with pytest.raises(UsageError, match="backend vllm"):  # all are to be written, by what is not here
        judge_answers.answers(run, by_engine, names, prompts, limit, QUIET)


def test_the_rubric_s_own_judge_is_replayed_and_an_unfit_one_is_told(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    assert judge.validate(run, plan, QUIET) is False  # a random model knows no medicine
    replies, made = run.file(REPLIES), run.file(judge.PASSPORT).read_bytes()
    kept = replies.stat().st_mtime_ns
    assert replies.stat().st_mode & 0o777 == 0o600
    run.file(judge.PASSPORT).unlink()
    assert judge.validate(run, plan, QUIET) is False
    assert replies.stat().st_mtime_ns == kept and run.file(judge.PASSPORT).read_bytes() == made
    assert not run.file(judge.SUMMARY).exists()


@pytest.mark.parametrize(
    ("kind", "part"), [("likelihood", "model"), ("likelihood", "adapter"), ("model", "model")]
)
def test_other_weights_under_the_same_names_are_another_judge(
    run_dir: tuple[RunDir, Plan], toy_model_dir: Path, toy_adapter_dir: Path, kind: str, part: str
) -> None:
    run, plan = run_dir
    rules = Path((plan.suite.judging or Judging()).rubric)
    shutil.copytree(toy_model_dir, rules.parent / "model")
    shutil.copytree(toy_adapter_dir, rules.parent / "adapter")
    known = {"model": str(rules.parent / "model"), "kind": kind, "max_new_tokens": 1}
    known |= {"adapter": str(rules.parent / "adapter")} if kind == "likelihood" else {"prompt": PROMPT}
    rules.write_text(yaml.safe_dump(yaml.safe_load(rules.read_text()) | known))
    assert judge.validate(run, plan, QUIET) is False
    replies = run.file(REPLIES).read_bytes()
    judge.validate(run, plan, QUIET)
    assert run.file(REPLIES).read_bytes() == replies
    (weights,) = (rules.parent / part).glob("*.safetensors")
    _scale_weights(weights, rules.parent / "other")
    (rules.parent / "other").replace(weights)
    judge.validate(run, plan, QUIET, way=Way(is_offline=True))  # of what was judged, whatever lies there now
    assert run.file(REPLIES).read_bytes() == replies
    judge.validate(run, plan, QUIET)
    now = run.file(REPLIES).read_bytes()
    assert now.startswith(replies) and now.count(b"\n") == 2 * replies.count(b"\n")


def test_a_replay_confirms_no_guess_of_what_was_asked(run_dir: tuple[RunDir, Plan]) -> None:
    """Its names depend on the run's key: whoever has the file and guesses a held-out prompt cannot compute
    them.
    """
    run, plan = run_dir
    judge.validate(run, plan, QUIET)
    rules = judge.rules_of(plan.suite, plan.suite.judging or Judging())
    shown = comparisons_of(rules, judge.controls_of(run, plan, rules))
    depends = depends_on(rules, window(rules), files=files_of(rules))
    asked = [question_key(comparison) for comparison in dict.fromkeys(shown)]
    copy = run.file("copy")
    for key, known in ((run.file(SEAL_KEY).read_bytes(), True), (bytes(32), False)):
        shutil.copyfile(run.file(REPLIES), copy)
        assert all((answer is not NEW) is known for answer in AnswerLog(copy, key, depends).answers(asked))
    told = run.file(REPLIES).read_text()
    names = {json.loads(line)["asked"] for line in told.splitlines()}
    plain = json.dumps(["asked", depends, asked[0]], sort_keys=True).encode()
    assert hashlib.sha256(plain).hexdigest()[:32] not in names
    assert not any(answer in told for answer in ANSWERS)


def test_equal_prompts_are_asked_once() -> None:
    records = [Record(f"h{n}", (Turn("user", f"Q{n % 2}"), Turn("assistant", "A"))) for n in range(6)]
    assert judge_prompts.prompts_of(records, 10) == {"h0": (Turn("user", "Q0"),), "h1": (Turn("user", "Q1"),)}
    assert list(judge_prompts.prompts_of(records, 1)) == ["h0"]


@pytest.mark.parametrize("command", [["judge"], ["judge", "validate"]])
def test_an_unfit_judge_exits_with_four(run_dir: tuple[RunDir, Plan], command: list[str]) -> None:
    run, _ = run_dir
    asked = ["--run", run.name, "--runs", str(run.path.parent), "--json"]
    found = CliRunner().invoke(app, [*command, *asked])
    assert found.exit_code == 4 and json.loads(found.stdout)["fit"] is False


BAD = {
    ("--set", "judging=null"): "judging: expected a rubric to judge by",
    ("--set", "judging.rubric=nope"): "judges/nope",
    ("--set", "judging.against=[nobody]"): "judging.against: expected some of inf, base",
    ("--set", "judging.against=[]"): "judging.against: expected some of inf, base",
    ("--against", "nobody"): "got nobody",
    ("--set", "judging.model=nowhere"): "nowhere",
    ("--set", "judging.prompts=0"): "judging.prompts",
    (
        "--prompts",
        "3",
        "--set",
        "judging.max_tokens_total=5",
    ): "--max-tokens-total: expected a rubric of kind",
    ("--prompts", "3", "--max-tokens-total", "5"): "--max-tokens-total: expected a rubric of kind",
    (
        "--prompts",
        "3",
        "--rubric",
        "endpoint",
        "--set",
        "judging.model=base",
        "--set",
        "evaluation.limit=3",
    ): ("--set evaluation.limit"),
    ("--set", "judging.backend=vllm"): "backend vllm: expected the package vllm",
    ("--set", "judging.backend=tgi"): "judging.backend",
}


@pytest.mark.parametrize("words", BAD)
def test_a_refused_request_leaves_no_entry(
    words: tuple[str, ...], run_dir: tuple[RunDir, Plan], call: Call
) -> None:
    run, _ = run_dir
    before = run.file("records/judging.json").read_bytes()
    told = call("judge", "--run", run.name, "--runs", str(run.path.parent), *words)
    assert told.code == 2 and BAD[words] in told.err.splitlines()[-1], told.err
    assert run.file("records/judging.json").read_bytes() == before and not run.file("judge").exists()


def test_prompts_and_references_are_options(run_dir: tuple[RunDir, Plan], call: Call) -> None:
    run, _ = run_dir
    where = ("--run", run.name, "--runs", str(run.path.parent))
    call("judge", *where, "--prompts", "4", "--against", "base", "--against", "inf")
    kept = declarations.in_force(run, "judging")["judging"]
    assert (kept["prompts"], kept["against"]) == (4, ["base", "inf"])


def test_people_stand_beside_the_judgements_of_a_run(
    run_dir: tuple[RunDir, Plan], call: Call, tmp_path: Path
) -> None:
    run, plan = run_dir
    where = ("--run", run.name, "--runs", str(run.path.parent), "--human", "people.csv")
    ids = list(judge_prompts.prompts_of(judge.heldout(run), 5))
    rows = [
        f"{prompt},sft-eps8,base,{winner}" for prompt, winner in zip(ids, ["tie"] * 4 + ["base"], strict=True)
    ]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(["prompt,arm,against,winner", *rows]))
    early = call("judge", "validate", *where)
    assert early.code == 2 and "dpaudit judge --run run" in early.err and not run.file("judge").exists()
    judge.run(run, plan, QUIET, judge=FakeJudge(knows))
    told = call("judge", "validate", *where, "--json")
    (people,) = json.loads(told.out)["people"]
    assert told.code == 0 and (people["agreement"], people["verdicts"], people["kappa"]) == (0.8, 5, 0.0)
    shown = call("judge", "validate", *where).out
    assert (
        "people gave: 5 verdicts; all were compared" in shown and "people saw: 5 of 5 judged prompts" in shown
    )
    assert "judge/human.json; it stands on the page after `dpaudit report html --run run`" in shown
    found = HumanAgreement.read(run, judge_human.FILE)
    assert found.is_few and found.counts["against"] == {"arm": 0, "against": 0, "tie": 1}
    assert run.is_current(judge_human.FILE, [judge.SUMMARY])
    table.write_text("\n".join(["prompt,arm,against,winner", *rows, "h99,sft-eps8,base,tie"]))
    unknown = call("judge", "validate", *where)
    assert unknown.code == 2 and "people.csv:7: prompt" in unknown.err and "got another text" in unknown.err
    table.write_text("\n".join(["prompt,winner", f"{ids[0]},tie"]))
    unnamed = call("judge", "validate", *where)
    assert unnamed.code == 2 and "sft-eps8 against base" in unnamed.err
    run.file(judge_human.FILE).unlink()
    assert "dpaudit judge validate --human FILE --run run" in call("show", *where[:4]).out


def test_what_verdicts_say_stands_beside_every_rate(run_dir: tuple[RunDir, Plan]) -> None:
    """Answers of six tokens are cut, none is right, five prompts are few, and no private text is written."""
    run, plan = run_dir
    judge.run(run, plan, QUIET, judge=FakeJudge(knows))
    found = Judgement.read(run, judge.SUMMARY)
    assert (found.max_new_tokens, found.limit_from) == (6, "as the suite declares")
    assert found.examples == () and found.no_examples == judge_answers.NOT_PUBLIC
    for pair in found.pairs:
        assert pair.correct is not None and (pair.correct.known, pair.correct.neither) == (5, 5)
        assert pair.arm_cut == pair.against_cut == 1.0
        assert "fewer than 30 distinct prompts" in pair.cautions
        assert "neither answer is right in 5 of 5 prompts" in pair.cautions
        assert f"100% of the answers of {pair.arm} were cut at their limit" in pair.cautions
        assert pair.corrected.rate == pytest.approx(0.5) and pair.equal_length.rate is None
    roles = {(pair.arm, pair.against): pair.role for pair in found.pairs}
    assert roles["sft-eps8", "sft-inf"] == "without noise and the next larger epsilon"


def test_lengths_of_private_answers_are_not_looked_at(run_dir: tuple[RunDir, Plan]) -> None:
    run, plan = run_dir
    auto = plan.with_settings({"judging.max_new_tokens": "auto"}, "test")
    private = judge.limit_of(run, auto)
    longer = Record("h14", (Turn("user", "Question?"), Turn("assistant", "word " * 700)))
    kept = [*judge.heldout(run), longer]
    run.write_lines("corpus/heldout.jsonl", (record.to_json() for record in kept))
    assert private == judge.limit_of(run, auto) and private.tokens == judge_answers.TOKENS
    assert "default" in private.source
    public = judge.limit_of(run, auto.with_settings({"judging.public": True}, "test"))
    assert public.tokens > 700 and "public prompts" in public.source


def test_answers_to_public_prompts_are_shown_unless_training_text_is_in_them(
    run_dir: tuple[RunDir, Plan],
) -> None:
    run, plan = run_dir
    public = plan.with_settings({"judging.public": True}, "test")
    run.write_lines("corpus/candidates.jsonl", [])
    judge.run(run, public, QUIET, judge=FakeJudge(knows))
    found = Judgement.read(run, judge.SUMMARY)
    assert len(found.examples) == 5 and found.no_examples is None
    texts = [answer.text for example in found.examples for answer in example.answers]
    said = next(text for text in texts if text and text.split())
    turns = [{"role": "user", "text": "?"}, {"role": "assistant", "text": said}]
    run.write_lines("corpus/candidates.jsonl", [{"kind": "record", "records": [{"turns": turns}]}])
    run.file(judge.SUMMARY).unlink()
    judge.run(run, public, QUIET, judge=FakeJudge(knows))
    again = Judgement.read(run, judge.SUMMARY)
    kept = [answer.text for example in again.examples for answer in example.answers]
    assert said not in kept and None in kept
