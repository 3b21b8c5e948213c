"""What a run is asked beside its training is no part of its plan: every key of a suite is on one side or the
other.
"""

import dataclasses
import json
import re
import shutil
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dpaudit import content
from dpaudit.cli import app
from dpaudit.commands import overview, states
from dpaudit.errors import UsageError
from dpaudit.pipeline import sequence
from dpaudit.signals import recipe
from dpaudit.storage import exclusive, record_chain, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations, loading
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import RECORDS, Plan
from dpaudit.suite.suite import (
    Candidates,
    Data,
    Declared,
    Evaluation,
    Judging,
    Lora,
    Model,
    Schedule,
    Suite,
    Training,
)
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = {"batch": 8, "steps": 3, "learning_rate": 0.01}
CLAIM = {"arm": "sft-eps4", "epsilon": 5.0, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"}

# Another value for every key of a suite. A new key fails the first test below until it stands on one side: in
# PLAN if what an
# arm learns, spends or is called may depend on it, else in RECORDS and here in BESIDE.
PLAN: dict[str, Any] = {
    "name": "other",
    "primary": "loss",
    "model.base": "elsewhere",
    "model.max_length": 90,
    "model.pair_prompt": 8,
    "model.pair_answer": 8,
    "model.dtype": "bfloat16",
    "model.quantization": "nf4",
    "model.attention": "sdpa",
    "model.start": "elsewhere",
    "model.assume_public": True,
    "data.source": "other.jsonl",
    "data.preference": "faults",
    "data.text": "other.jsonl",
    "data.rows": "0:20",
    "data.patients": 25,
    "data.heldout": 5,
    "data.limit": 20,
    "candidates.family": "invented",
    "candidates.canaries": 8,
    "candidates.canary_length": 5,
    "candidates.canary_repetitions": 2,
    "candidates.records": 6,
    "candidates.extraction": 6,
    "candidates.extraction_length": 5,
    "candidates.extraction_repetitions": 3,
    "candidates.temperature": 1.1,
    "candidates.gradient": 100,
    "training.private": STEPS | {"steps": 4},
    "training.nonprivate": STEPS | {"steps": 4},
    "training.dpo_private": STEPS,
    "training.dpo_nonprivate": STEPS,
    "training.cpt_private": STEPS,
    "training.cpt_nonprivate": STEPS,
    "training.dpo_beta": 0.2,
    "training.dpo_label_smoothing": 0.1,
    "training.steps": 3,
    "training.unit": "record",
    "training.delta": 1e-6,
    "training.clip": 0.7,
    "training.population": 99,
    "training.records_per_patient": 3,
    "training.coupled_pairs": 2,
    "training.deepspeed": "zero1",
    "training.allow_delta": True,
    "training.lora.rank": 3,
    "training.lora.alpha": 8,
    "training.lora.dropout": 0.1,
    "training.lora.rslora": True,
    "training.lora.targets": "q_proj",
    "grid.epsilons": [8],
    "grid.baseline": False,
    "grid.dpo": ["sigmoid"],
    "grid.dpo_epsilons": [4],
    "grid.stages": ["cpt", "sft"],
    "grid.chain": True,
    "grid.share": 0.4,
    "grid.seeds": 2,
    "grid.twin": True,
}
BESIDE: dict[str, Any] = {
    "evaluation.tasks": [{"name": "clinic_choice", "data": "builtin:clinic"}],
    "evaluation.limit": 3,
    "evaluation.margin": 0.1,
    "evaluation.batch": 2,
    "evaluation.fewshot": 2,
    "evaluation.chat_template": False,
    "judging": {"rubric": "likelihood", "prompts": 3, "max_new_tokens": 4, "against": ["base"]},
    "claims": [CLAIM],
    "attacks": ["mia"],
    "shadows": 2,
    "release.epsilon": 2.0,
    "description": "Other words.",
    "data.languages": "English",
    "data.dates": "2019 to 2021",
    "model.shape": {"hidden_size": 8},
    "training.micro_batch": 4,
    "training.gradient_checkpointing": True,
    "training.checkpoint_every": 1,
    "training.tensorboard": True,
}
FIXED = {"training.relation"}  # has one value


def keys(cls: Any = Suite, prefix: str = "") -> Iterator[str]:
    """Every key of a suite, dotted; a mapping that may be left out, and a schedule, count as one."""
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint) and hint is not Schedule:
            yield from keys(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def toy(model: Path) -> Plan:
    chosen = Suite(
        name="toy",
        training=Training(Schedule(**STEPS), Schedule(**STEPS), clip=0.5, micro_batch=16, lora=Lora(rank=2)),
        model=Model(str(model), max_length=80),
        data=Data(patients=24, heldout=4),
        candidates=Candidates(canaries=100, records=4, extraction=4, extraction_repetitions=2),
        grid=Grid(epsilons=(4.0,)),
        evaluation=Evaluation(),
        attacks=(),
        judging=None,
    )
    return Plan(chosen, seed=3)


def other(plan: Plan, key: str, value: Any) -> Plan:
    return plan.with_settings({key: value}, "test")


def test_every_key_is_in_the_plan_or_in_a_record() -> None:
    known = list(keys())
    assert sorted(known) == sorted([*PLAN, *BESIDE, *FIXED])
    recorded = [key for kept in RECORDS.values() for key in kept]
    assert {key for key in known if any(key == own or key.startswith(f"{own}.") for own in recorded)} == set(
        BESIDE
    )


@pytest.mark.parametrize("key", PLAN)
def test_another_value_of_a_plans_key_is_another_run(key: str) -> None:
    plan = toy(Path("model"))
    plan = other(plan, "grid.chain", True) if key == "grid.share" else plan
    changed = other(plan, key, PLAN[key])
    assert changed != plan
    assert run_store.located(changed.to_json(), "x") != run_store.located(plan.to_json(), "x")
    assert not changed.trains_as(plan.to_json()) or key == "primary"


@pytest.mark.parametrize("key", BESIDE)
def test_another_value_of_a_records_key_is_the_same_run_and_unseen_by_training(key: str) -> None:
    plan = toy(Path("model"))
    changed = other(plan, key, BESIDE[key])
    assert changed != plan
    assert run_store.located(changed.to_json(), "x") == run_store.located(plan.to_json(), "x")
    assert (changed.of_training == plan.of_training) != (key in RECORDS["placement"])


@pytest.fixture(scope="module")
def finished(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, Plan]:
    """A trained and evaluated run. Tests copy it."""
    from dpaudit.stages import evaluate

    plan = toy(toy_model_dir)
    run_dir = sequence.train(plan, tmp_path_factory.mktemp("runs"), QUIET, workers=1)
    evaluate.run(run_dir, plan, QUIET)
    return run_dir, plan


@pytest.fixture
def run(finished: tuple[RunDir, Plan], tmp_path: Path) -> tuple[RunDir, Plan]:
    run_dir, plan = finished
    return RunDir(shutil.copytree(run_dir.path, tmp_path / "runs" / run_dir.name)), plan


def changes(run_dir: RunDir, folder: str, work: Callable[[], object]) -> set[str]:
    """The files of a folder of the run that `work` wrote."""

    def times() -> dict[str, int]:
        found = run_dir.file(folder).rglob("*")
        return {str(p.relative_to(run_dir.path)): p.stat().st_mtime_ns for p in found if p.is_file()}

    before = times()
    work()
    return {
        name for name, time in times().items() if before.get(name) != time
    } | before.keys() - times().keys()


def marks(run_dir: RunDir, record: str) -> list[str]:
    return [entry.mark for entry in declarations.entries(run_dir, record)]


def typed(run_dir: RunDir, *words: object) -> Result:
    return CliRunner().invoke(
        app, [*map(str, words), "--run", run_dir.name, "--runs", str(run_dir.path.parent)]
    )


def test_no_records_key_trains_an_arm_again(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    for key, value in BESIDE.items():
        changed = other(plan, key, value)

        def again(changed: Plan = changed) -> None:
            assert sequence.train(changed, run_dir.path.parent, QUIET, workers=1) == run_dir

        for folder in ("train", "corpus", "secret"):
            assert changes(run_dir, folder, again) == set(), key
    for record in RECORDS:
        assert marks(run_dir, record)[0] == "declared" and set(marks(run_dir, record)[1:]) == {"added later"}


def test_what_is_asked_before_the_corpus_is_declared(toy_model_dir: Path, tmp_path: Path) -> None:
    plan = toy(toy_model_dir)
    run_dir = run_store.open_or_create(plan.to_json(), "toy", tmp_path)
    assert declarations.keep(run_dir, plan) == []
    assert declarations.keep(run_dir, other(plan, "evaluation.limit", 9)) == []
    run_dir.file("corpus").mkdir()
    assert declarations.keep(run_dir, other(plan, "evaluation.limit", 8)) == ["evaluation"]
    assert marks(run_dir, "evaluation") == ["declared", "declared", "added later"]
    assert [e.settings["evaluation"]["limit"] for e in declarations.entries(run_dir, "evaluation")] == [
        None,
        9,
        8,
    ]
    assert declarations.plan_of(run_dir).suite.evaluation.limit == 8


def test_a_suite_that_says_the_same_leaves_what_a_command_added(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    asked = other(plan, "evaluation.limit", 5)
    declarations.add(run_dir, "evaluation", asked.settings("evaluation"), "command")
    assert declarations.keep(run_dir, plan) == []
    assert declarations.plan_of(run_dir).suite.evaluation.limit == 5


def test_a_benchmark_more_asks_for_that_benchmark_alone(
    run: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.stages import evaluate

    run_dir, _ = run
    measured = run_dir.read_json("evaluate/sft-inf.json")["heldout"]
    monkeypatch.setattr(evaluate, "heldout_bits", lambda *_: pytest.fail("held-out text was measured again"))
    words = ("eval", "--task", "clinic_choice=builtin:clinic", "--set", "evaluation.limit=4")
    done: list[Result] = []
    assert changes(run_dir, "train", lambda: done.append(typed(run_dir, *words))) == set()
    assert done[0].exit_code == 0, done[0].output
    found = run_dir.read_json("evaluate/sft-inf.json")
    items = found["items"]["clinic_choice"]
    assert len(items) >= 4 and len({item[3] for item in items}) == 1  # a whole cluster
    assert found["heldout"] == measured
    assert marks(run_dir, "evaluation") == ["declared", "added later"]
    assert "added later" in typed_show(run_dir)

    # another margin asks no model anything; what came before stays known
    monkeypatch.setattr(evaluate, "load_model", lambda *_: pytest.fail("a model was loaded"))
    assert typed(run_dir, "eval", "--set", "evaluation.margin=0.2").exit_code == 0
    assert run_dir.read_json("evaluate/summary.json")["margin"] == 0.2
    assert typed(run_dir, "eval").exit_code == 0  # without options the last entry counts
    assert run_dir.read_json("evaluate/summary.json")["margin"] == 0.2


def typed_show(run_dir: RunDir) -> str:
    return CliRunner().invoke(app, ["show", run_dir.name, "--runs", str(run_dir.path.parent)]).output


def test_settings_that_are_not_measured_yet_make_outputs_stale(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    files = [
        *(f"evaluate/{name}.json" for name in ("base", "sft-inf", "summary")),
        "train/sft-inf/train.json",
    ]
    assert all(states.is_current(run_dir, file) for file in files)
    asked = other(plan, "evaluation.limit", 5).settings("evaluation")
    declarations.add(run_dir, "evaluation", asked, "command")
    assert [states.is_current(run_dir, file) for file in files] == [False, False, False, True]
    declarations.add(run_dir, "evaluation", plan.settings("evaluation"), "command")
    assert all(states.is_current(run_dir, file) for file in files)  # it is the settings that count


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("eval", "--set", "training.clip=2"), "a key of evaluation"),
        (("eval", "--set", "judging.prompts=2"), "a key of evaluation"),
        (("eval", "--set", "evaluation.marign=0.1"), "did you mean margin"),
        (("eval", "--task", "pubmedqa_file=nowhere.jsonl"), "no such file"),
        pytest.param(
            ("eval", "--task", "no_such_benchmark"), "an unknown name", marks=pytest.mark.slow
        ),  # all of lm-eval is listed
        (("eval", "--task", "=items.jsonl"), "NAME=FILE"),
        (("eval", "--task", "items.jsonl"), "--task NAME=items.jsonl, NAME one of "),
        (("judge", "--rubric", "nobody"), "nobody"),
        (("judge", "--set", "evaluation.limit=1"), "a key of judging"),
        (("judge",), "--rubric NAME, one of criteria, endpoint, likelihood, local"),
        (("verify", "--arm", "sft-eps4"), "--arm ARM with --claim"),
        (
            (
                "verify",
                "--arm",
                "sft-eps9",
                "--claim",
                "eps=5,delta=1e-5,unit=patient,relation=add_or_remove",
            ),
            "sft-inf, sft-eps4",
        ),
        (
            ("verify", "--arm", "sft-eps4", "--claim", "eps=5,delta=1e-5,unit=record,relation=add_or_remove"),
            "unit patient",
        ),
        (("verify",), "`dpaudit attack mia --run toy-"),
        (
            (
                "verify",
                "--arm",
                "sft-eps4",
                "--claim",
                "eps=5,delta=1e-5,unit=patient,relation=add_or_remove",
            ),
            "dpaudit attack mia",
        ),
    ],
)
def test_a_slip_writes_nothing(words: tuple[str, ...], told: str, run: tuple[RunDir, Plan]) -> None:
    run_dir, _ = run
    done: list[Result] = []
    assert changes(run_dir, "records", lambda: done.append(typed(run_dir, *words))) == set()
    assert isinstance(done[0].exception, UsageError)
    assert told in str(done[0].exception) and "\n" not in str(done[0].exception)


@pytest.mark.parametrize(
    "words", [("eval", "--set", "evaluation.limit=5"), ("judge", "--rubric", "likelihood")]
)
def test_what_is_refused_was_not_asked(words: tuple[str, ...], run: tuple[RunDir, Plan]) -> None:
    run_dir, _ = run
    work = {"eval": "evaluate", "judge": "judge"}[words[0]]
    with exclusive.writing(run_dir, work):  # as if another command were at it
        assert changes(run_dir, "records", lambda: one_of(run_dir, words, "another dpaudit")) == set()
    shutil.rmtree(run_dir.file("train"))
    assert changes(run_dir, "records", lambda: one_of(run_dir, words, "dpaudit train")) == set()


def test_a_judge_that_may_not_be_asked_was_not_asked_for(run: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir, _ = run
    far = tmp_path / "far.yaml"
    shipped = content.listing("judges")["endpoint"].read_text()
    far.write_text(
        re.sub("http://[^/]*", "https://judge.example", shipped).replace("name: endpoint", "name: far")
    )
    for words in (("judge",), ("judge", "validate")):
        asked = (*words, "--rubric", str(far))
        assert (
            changes(run_dir, "records", lambda asked=asked: one_of(run_dir, asked, "--allow-egress")) == set()
        )


def one_of(run_dir: RunDir, words: tuple[str, ...], told: str) -> None:
    done = typed(run_dir, *words)
    assert isinstance(done.exception, UsageError) and told in str(done.exception)


def test_claims_are_added_and_never_replaced(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    first, second = ({**CLAIM, "epsilon": e} for e in (4.5, 5.0))
    for claims in ([first], [second], []):
        declarations.keep(run_dir, other(plan, "claims", claims))
    assert declarations.plan_of(run_dir).settings("claims") == {"claims": [first, second]}
    assert [(claim.epsilon, entry.mark) for claim, entry in declarations.claims(run_dir)] == [
        (4.5, "added later"),
        (5.0, "added later"),
    ]


def test_verify_and_the_page_tell_a_claim_that_was_declared_from_one_added_later(tmp_path: Path) -> None:
    import fabricate

    from dpaudit.stages import report
    from dpaudit.stages.attack import scores
    from dpaudit.stages.audit.members import audit_file, audit_inputs

    made = fabricate.plan_named("clinic")
    said = Declared("sft-eps1", 1.0, 1e-5, made.suite.training.unit, "add_or_remove")
    made = replace(made, suite=replace(made.suite, claims=(said,)))
    run_dir, plan = fabricate.run(tmp_path / "runs", plan=made)
    report.run(run_dir, plan, QUIET)
    assert "declared before training" in run_dir.file("report/index.html").read_text()
    assert "added later" not in run_dir.file("report/index.html").read_text()
    for arm in ("sft-eps1", "sft-eps8"):
        file, inputs = audit_file(arm, "calibrated"), audit_inputs(arm, "calibrated")
        for name in inputs:
            if not run_dir.file(name).is_file():
                scores.write_scores(run_dir, plan, arm, recipe.load("calibrated"), [])
        run_dir.write_json(file, run_dir.read_json(file), inputs)
    text = f"eps=8,delta=1e-5,unit={said.unit},relation=add_or_remove"
    done = typed(run_dir, "verify", "--arm", "sft-eps8", "--claim", text, "--json")
    rows = json.loads(done.stdout)["declared"]
    assert [(row["arm"], row["mark"]) for row in rows] == [
        ("sft-eps1", "declared"),
        ("sft-eps8", "added later"),
    ]
    assert not states.is_current(run_dir, "report/report.json")
    report.run(run_dir, declarations.plan_of(run_dir), QUIET)
    told = run_dir.read_json("report/report.json")["claims"]
    assert [(row["mark"], row["verdict"]) for row in told] == [(row["mark"], row["verdict"]) for row in rows]
    page = run_dir.file("report/index.html").read_text()
    assert "declared before training" in page and "added later" in page


def test_another_rubric_on_a_finished_run(run: tuple[RunDir, Plan]) -> None:
    run_dir, _ = run
    done: list[Result] = []
    words = ("judge", "validate", "--rubric", "likelihood", "--set", "judging.prompts=3")
    assert changes(run_dir, "train", lambda: done.append(typed(run_dir, *words))) == set()
    assert done[0].exit_code in (0, 4), done[0].output
    assert declarations.plan_of(run_dir).suite.judging == Judging("likelihood", prompts=3)
    assert marks(run_dir, "judging") == ["declared", "added later"]
    done_before = CliRunner().invoke(app, ["judge", "--rubric", "local", "validate"])
    assert isinstance(done_before.exception, UsageError) and "after the word" in str(done_before.exception)


def refused(run_dir: RunDir, *told: str) -> None:
    """Every reader of records says the same."""

    def show() -> Result:
        return CliRunner().invoke(app, ["show", run_dir.name, "--runs", str(run_dir.path.parent)])

    readers = [("eval",), ("report", "html"), ("attack", "mia"), ("verify",)]
    for done in (show(), *(typed(run_dir, *words) for words in readers)):
        assert isinstance(done.exception, UsageError) and done.exception.exit_code == 2
        assert all(words in str(done.exception) for words in (*told, "dpaudit run SUITE")), done.exception


def test_an_older_record_that_is_put_back_is_told(run: tuple[RunDir, Plan]) -> None:
    """A claim would be gone, and nobody would know of it."""
    run_dir, plan = run
    before = {name: run_dir.file(name).read_bytes() for name in ("records/claims.json", record_chain.FILE)}
    declarations.keep(run_dir, other(plan, "claims", [CLAIM]))
    for name, data in before.items():
        now = run_dir.file(name).read_bytes()
        run_dir.file(name).write_bytes(data)
        refused(run_dir, "records/claims.json: ", "got another content, such as an older copy")
        run_dir.file(name).write_bytes(now)
    assert [claim.epsilon for claim, _ in declarations.claims(run_dir)] == [CLAIM["epsilon"]]


def test_a_lost_record_is_told_and_written_anew_and_its_loss_stays_known(run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = run
    declarations.keep(run_dir, other(plan, "claims", [CLAIM]))
    assert overview.lost_rows(run_dir) == []
    run_dir.file("records/claims.json").unlink()
    refused(run_dir, "records/claims.json: ", "got no such file")
    assert (
        changes(run_dir, "train", lambda: sequence.train(plan, run_dir.path.parent, QUIET, workers=1))
        == set()
    )
    assert marks(run_dir, "claims") == ["added later"]
    [row] = overview.lost_rows(run_dir)
    assert (row["record"], row["mark"]) == ("claims", "written again: 2 entries of the earlier record lost")
    assert row["mark"] in " ".join(typed_show(run_dir).split())
    assert typed(run_dir, "report", "html").exit_code == 0
    assert "Some settings of this run are lost" in run_dir.file("report/index.html").read_text()

    run_dir.file(record_chain.FILE).unlink()
    refused(run_dir, f"{record_chain.FILE}: ", "got no such file")
    sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    assert [row["record"] for row in overview.lost_rows(run_dir)] == [record_chain.ALL]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_record_whose_writing_was_killed_fits(
    steps: int, run: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the three writes, only the first came, or the first two; typed again, no older copy fits any
    more.
    """
    run_dir, plan = run
    older, asked = run_dir.file("records/claims.json").read_bytes(), other(plan, "claims", [CLAIM])
    whole, left = RunDir.write_json, iter(range(steps))

    def killed(self: RunDir, *arguments: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        whole(self, *arguments)

    monkeypatch.setattr(RunDir, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        declarations.keep(run_dir, asked)
    monkeypatch.undo()
    assert len(declarations.claims(run_dir)) == steps - 1
    declarations.keep(run_dir, asked)
    assert len(declarations.claims(run_dir)) == 1 and overview.lost_rows(run_dir) == []
    run_dir.file("records/claims.json").write_bytes(older)
    with pytest.raises(UsageError, match="an older copy"):
        declarations.claims(run_dir)


def old_plan(plan: Plan) -> dict[str, Any]:
    """plan.json as it was while it held all of the suite."""
    told = plan.to_json()
    del told["format"]
    whole = plan.with_settings({}, "test")
    for record in RECORDS:
        for key, value in whole.settings(record).items():
            loading.put(told["suite"], key, value)
    return told


def test_a_run_of_before_is_told_and_never_trained_again_in_silence(
    tmp_path: Path, toy_model_dir: Path
) -> None:
    plan = toy(toy_model_dir)
    run_dir = RunDir(tmp_path / "runs" / "toy-01234567")
    run_dir.path.mkdir(parents=True)
    run_dir.file("plan.json").write_text(json.dumps(old_plan(plan)))
    for words in (("eval",), ("attack", "mia"), ("report", "html")):
        done = typed(run_dir, *words)
        assert isinstance(done.exception, UsageError) and "a plan of another version" in str(done.exception)
    with pytest.raises(UsageError, match="second release"):
        sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    assert [path.name for path in run_dir.path.parent.iterdir()] == [run_dir.name]
    listed = CliRunner().invoke(app, ["ls", "--runs", str(run_dir.path.parent)])
    assert listed.exit_code == 2 and "a plan of another version" in " ".join(listed.output.split())


def test_the_same_training_under_other_versions_is_told(
    run: tuple[RunDir, Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, plan = run
    sequence.tell_earlier(replace(plan, versions={"torch": "0"}), run_dir.path.parent, Progress())
    assert f"{run_dir.path} is this training under other versions" in capsys.readouterr().err
    sequence.tell_earlier(other(plan, "training.clip", 0.6), run_dir.path.parent, Progress())
    assert capsys.readouterr().err == ""
