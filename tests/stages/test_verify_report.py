"""`report verify`: silent on a correct run, and the first planted edit is named, whatever was mended beside
it.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import test_audit
import test_judge

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.findings.quality import Asking, HeldOut, Item, Measured, Quality, TaskAsked, TasksAsked
from dpaudit.findings.report import Report
from dpaudit.judging import losses, quality
from dpaudit.privacy import ledger as ledgers
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stages import (
    comparisons,
    contaminated,
    evaluate,
    judge,
    report,
    report_public,
    translated,
    verify_report,
)
from dpaudit.stages.audit import audit
from dpaudit.stages.integrity import custody as chain
from dpaudit.stages.judge_replies import REPLIES
from dpaudit.stages.verify_report import Checked
from dpaudit.storage import custody, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.storage.sidecars import write_sealed
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
TASK = "clinic_short"
RECIPES = ("calibrated", "loss")
PRIMARY = "audit/sft-eps8/calibrated.json"
Made = tuple[RunDir, Plan]


def train(run_dir: RunDir, plan: Plan, arm: Arm) -> None:
    """An arm as training leaves it; its ledger is what accountants make of the mechanism."""
    fabricate.train(run_dir, plan, arm)
    training = plan.suite.training
    sigma = {8.0: 1.0, 1.0: 4.0, math.inf: 0.0}[arm.epsilon]
    mechanism = Mechanism(sigma, 0.1, 4, 1.0 if arm.private else math.inf)
    claim = Claim(arm.epsilon, 1e-5, training.unit, training.claimed_relation)
    about = {
        "method": arm.method,
        "loss": arm.loss,
        "epsilon": arm.epsilon if arm.private else "inf",
        "seed": 0,
    }
    facts = {"population": 200, "population_assumed": True, "reproducible_noise": False}
    made = ledgers.made(claim, mechanism, 4, about, **facts, expected_batch=16, sampler="poisson")
    run_dir.write_json(f"train/{arm.name}/privacy.json", made.to_json(), chain.INPUTS)
    figures = run_dir.read_json(f"train/{arm.name}/train.json")
    run_dir.write_json(f"train/{arm.name}/train.json", figures, chain.INPUTS)
    fabricate.bind(run_dir, arm.name)


def measure(run_dir: RunDir, plan: Plan) -> None:
    """What stage evaluate leaves, its answers drawn."""
    run_dir.write_json("evaluate/tasks.json", _tasks().to_json())
    arms = [arm for arm in plan.suite.grid.arms if not arm.twin]
    degraded = losses.degradable(arms)
    names = ["base", *(arm.name for arm in arms), *([degraded.name + losses.HALF] if degraded else [])]
    records = comparisons.heldout(run_dir)
    for number, name in enumerate(names):
        _answers(number, name, records).write(run_dir, comparisons.output(name), evaluate.inputs(name))
    made_from = [*map(comparisons.output, names), "evaluate/tasks.json", evaluate.SETTINGS]
    found = contaminated.without_them(TASK, {"item-1"}, comparisons.read_all(run_dir, arms))
    row = contaminated.TaskContamination(TASK, 40, 40, 0, 1, ("item-1",), found)
    inputs = [comparisons.output(name) for name in names if not name.endswith(losses.HALF)]
    contaminated.Contamination(8, 0.5, (row,)).write(
        run_dir, contaminated.FILE, ["corpus/manifest.json", "evaluate/tasks.json", *inputs]
    )
    comparisons.summary(run_dir, plan, arms).write(run_dir, evaluate.SUMMARY, made_from)


def _tasks() -> TasksAsked:
    return TasksAsked({TASK: TaskAsked(None, "0" * 32, Asking("0.4", None, None, False))}, ())


def _answers(number: int, name: str, records: list[Record]) -> Measured:
    draw = np.random.default_rng(number)
    items = tuple(
        Item(f"item-{i}", int(draw.random() < 0.5), float(draw.normal()), f"c{i}", 0.4, (-0.1, -2.0), "p")
        for i in range(40)
    )
    is_half = name.endswith(losses.HALF)
    rows = () if is_half else tuple(HeldOut(r.id, float(draw.uniform(20, 60)), 40) for r in records)
    bits = quality.bits_figures(rows, comparisons.clusters(records))
    figures = Quality(name, (quality.accuracy_figures(TASK, items, 0.5),), bits, 0)
    return Measured(figures, {TASK: items}, {TASK: {}}, rows, {}, {TASK: "d"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run with raw records of its own, audited, compared and reported. Tests take copies."""
    whole = test_audit.plan_with()
    sizes = replace(whole.suite.candidates, canaries=100, records=20, extraction=4)
    data = replace(whole.suite.data, patients=60)
    plan = replace(whole, suite=replace(whole.suite, data=data, candidates=sizes))
    run_dir = run_store.open_or_create(plan.to_json(), plan.suite.name, tmp_path_factory.mktemp("runs"))
    declarations.keep(run_dir, plan)
    test_audit.prepare.run(run_dir, plan, QUIET)
    for arm in plan.suite.grid.arms:
        train(run_dir, plan, arm)
        test_audit.score(run_dir, plan, arm.name, test_audit.LEAK[arm.name])
    audit.run(run_dir, plan, QUIET, "mia", recipes=RECIPES)
    audit.run(run_dir, plan, QUIET, "extract", recipes=test_audit.EXTRACTION)
    measure(run_dir, plan)
    report.run(run_dir, plan, QUIET)
    return run_dir, plan


@pytest.fixture
def run_dir(made: Made, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(made[0].path, tmp_path / made[0].name)))


@pytest.fixture(scope="module")
def judged(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run whose rubric's own judge, a random model, was asked, and found unfit; no arm answers then."""
    place = tmp_path_factory.mktemp("judged")
    (place / "toy.yaml").write_text(
        f"name: toy\ntitle: Toy\nkind: likelihood\nmodel: {toy_model_dir}\n"
        "controls: {count: 12, least: 7, minimum: 0.6}\n"
    )
    run_dir, plan = test_judge.toy_run(toy_model_dir, toy_adapter_dir, place, place / "toy.yaml")
    for arm in plan.suite.grid.arms:
        shutil.rmtree(run_dir.file(f"train/{arm.name}"))
        train(run_dir, plan, arm)
    judge.run(run_dir, plan, QUIET)
    report.run(run_dir, plan, QUIET)
    return run_dir, plan


def checked(run_dir: RunDir, commitment: str | None = None) -> Checked:
    """What is found; nothing in the run changes, and nothing is left in the folder of scratch files."""
    before = {path: path.stat().st_mtime_ns for path in sorted(run_dir.path.rglob("*"))}
    found = verify_report.check(run_dir, commitment, QUIET)
    assert {path: path.stat().st_mtime_ns for path in sorted(run_dir.path.rglob("*"))} == before
    return found


def held(run_dir: RunDir, file: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run_dir.file(file).read_text(encoding="utf-8"))
    return data


def put(run_dir: RunDir, file: str, data: dict[str, Any], mend: str) -> None:
    """Writes an edited file: as it is, with its hash mended by somebody without the key, with the key, or
    with the key of the run taken away beside it.
    """
    bare = {key: value for key, value in data.items() if key != custody.KEY}
    key = {"hash": None, "seal": seal_key(run_dir.path), "no key": None}.get(mend)
    written = data if mend == "nothing" else custody.stamped(bare, file, key)
    run_dir.file(file).write_text(json.dumps(written), encoding="utf-8")
    if mend == "no key":
        run_dir.file(custody.SEAL_KEY).unlink()


def test_the_chinese_page_is_compared_with_the_english_one(run_dir: RunDir) -> None:
    page = translated.write(run_dir, report.PAGE, QUIET)
    assert "report/index.zh.html" in checked(run_dir).recomputed
    text = page.read_text(encoding="utf-8").replace("未被推翻", "已被推翻", 1)
    write_sealed(run_dir, translated.beside(report.PAGE), text, inputs=[report.PAGE])
    with pytest.raises(UsageError, match=r"index\.zh\.html: expected the English page in Chinese"):
        checked(run_dir)
    page.write_text(text.replace("不得发布", "可按其主张发布"), encoding="utf-8")
    found = checked(run_dir)
    assert found.difference is not None and found.difference.file == "report/index.zh.html"


def test_a_chinese_page_that_stands_alone_is_compared_too(run_dir: RunDir) -> None:
    page = translated.write(run_dir, report.PAGE, QUIET)
    run_dir.file(report.PAGE).unlink()
    found = checked(run_dir)
    assert "report/index.zh.html" in found.recomputed and report.PAGE not in found.recomputed
    text = page.read_text(encoding="utf-8").replace("未被推翻", "已被推翻", 1)
    write_sealed(run_dir, translated.beside(report.PAGE), text)
    with pytest.raises(UsageError, match=r"index\.zh\.html: expected the English page in Chinese"):
        checked(run_dir)


def test_a_correct_run_is_made_again_to_the_last_figure(run_dir: RunDir) -> None:
    found = checked(run_dir)
    assert found.difference is None
    assert found.custody == chain.SEALED
    assert set(found.recomputed) >= {
        "audit/blind.json", "audit/near_duplicates.json", "audit/summary.json", PRIMARY,
        "audit/sft-eps1/extraction.json", "evaluate/base.json", "evaluate/summary.json",
        "evaluate/contamination.json", "train/sft-eps8/privacy.json", "report/report.json",
        "report/index.html",
    }  # fmt: skip
    assert found.figures > 1000
    public = "report/public.html (dpaudit report html --public)"
    assert found.not_there == [public, "judge/summary.json (dpaudit judge)"]
    assert any("not asked for again" in why for why in found.hash_checked.values())


MENDS = ("nothing", "hash", "seal", "no key")
Edit = Callable[[dict[str, Any]], None]


def _accuracy(data: dict[str, Any]) -> None:
    data["quality"]["tasks"][0]["accuracy"] = 0.99


def _bound(data: dict[str, Any]) -> None:
    data["bound"]["epsilon_lower"] = 0.0123


def _verdict(data: dict[str, Any]) -> None:
    data["answers"][1]["verdict"] = "not refuted"


def _difference(data: dict[str, Any]) -> None:
    data["pairs"][0]["difference"] = 0.4321


def _reported(data: dict[str, Any]) -> None:
    data["audits"][0]["bound"]["epsilon_lower"] = 0.0123


EDITS: dict[str, tuple[Edit, str]] = {
    PRIMARY: (_bound, "/bound/epsilon_lower"),
    "audit/summary.json": (_verdict, "/answers/1/verdict"),
    "evaluate/base.json": (_accuracy, "/quality/tasks/0/accuracy"),
    "evaluate/summary.json": (_difference, "/pairs/0/difference"),
    "report/report.json": (_reported, "/audits/0/bound/epsilon_lower"),
}


@pytest.mark.parametrize(
    ("file", "mend"),
    [
        *((PRIMARY, mend) for mend in MENDS),
        *(("report/report.json", mend) for mend in MENDS),
        *((file, "seal") for file in EDITS if file.startswith(("audit/summary", "evaluate"))),
    ],
)
def test_an_edited_figure_is_named(file: str, mend: str, run_dir: RunDir) -> None:
    edit, key = EDITS[file]
    data = held(run_dir, file)
    edit(data)
    put(run_dir, file, data, mend)
    found = checked(run_dir).difference
    assert found is not None and (found.file, found.key) == (file, key)
    assert found.expected != found.got
    place, value = found.in_report, held(run_dir, "report/report.json")
    for part in place.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    assert place and not isinstance(value, dict | list)


def fails(run_dir: RunDir, file: str, key: str = "") -> None:
    found = checked(run_dir).difference
    assert found is not None and (found.file, found.key) == (file, key), found


def test_an_exchanged_score_is_named(run_dir: RunDir, made: Made) -> None:
    """A score file of another arm in its place; scores that were changed under the run's own seal."""
    file, other = "attack/sft-eps8/calibrated.parquet", "attack/sft-eps1/calibrated.parquet"
    shutil.copyfile(run_dir.file(other), run_dir.file(file))
    fails(run_dir, file)


def test_scores_that_the_trainer_changed_and_sealed_are_seen_by_what_was_made_from_them(
    run_dir: RunDir, made: Made
) -> None:
    from dpaudit.signals import recipe
    from dpaudit.stages.attack import scores

    kept = scores.read_scores(run_dir, "sft-eps8", "loss")
    lower = [replace(row, value=-row.value) if row.kind == "canary" else row for row in kept]
    scores.write_scores(run_dir, made[1], "sft-eps8", recipe.load("loss"), lower)
    file = "audit/sft-eps8/loss.json"
    data = held(run_dir, file)  # and its input's hash made to fit
    data["inputs"]["attack/sft-eps8/loss.parquet"] = run_dir.digest("attack/sft-eps8/loss.parquet")
    put(run_dir, file, data, "seal")
    found = checked(run_dir).difference
    assert found is not None and found.file == file and found.key.startswith("/canaries/auc")
    assert found.in_report.startswith("/audits/") and found.in_report.endswith(found.key)


def test_other_coins_are_named(run_dir: RunDir) -> None:
    coins = held(run_dir, chain.COINS)
    first = next(iter(coins))
    coins[first] = not coins[first]
    run_dir.file(chain.COINS).write_text(json.dumps(coins))
    fails(run_dir, chain.COINS)


def test_a_ledger_that_says_less_than_its_mechanism_spends(run_dir: RunDir) -> None:
    file = "train/sft-eps8/privacy.json"
    fabricate.rewrite(run_dir, file, run_dir.read_json(file) | {"epsilon_pld": 0.5})
    found = checked(run_dir).difference
    assert found is not None and (found.file, found.key, found.got) == (file, "/epsilon_pld", "0.5")
    assert found.in_report == "/arms/1/privacy/epsilon_pld"


@pytest.mark.parametrize("sealed", [False, True])
def test_an_edited_page_is_named(sealed: bool, run_dir: RunDir) -> None:
    page = run_dir.file("report/index.html")
    html = page.read_text(encoding="utf-8")
    at = html.index("</data>", html.index("bound/epsilon_lower"))
    page.write_text(html[:at] + "7" + html[at:], encoding="utf-8")
    if sealed:
        seal(run_dir)
    found = checked(run_dir).difference
    assert found is not None and found.file == "report/index.html" and found.got.endswith("7'")
    assert found.key.endswith("/bound/epsilon_lower")


def seal(run_dir: RunDir, page: str = "report/index.html") -> None:
    """Makes the page one that this run wrote, whatever it says."""
    beside = custody.sidecar(page)
    digest = custody.file_digest(run_dir.file(page))
    run_dir.write_json(beside, {"sha256": [digest]}, run_dir.recorded_inputs(beside))


def test_other_words_on_the_page_are_an_edit_or_with_its_seal_out_of_date(
    run_dir: RunDir,
) -> None:
    page = run_dir.file("report/index.html")
    page.write_text(page.read_text(encoding="utf-8").replace("must not be released", "may be released"))
    fails(run_dir, "report/index.html")
    seal(run_dir)
    with pytest.raises(UsageError, match="another version of dpaudit wrote; type `dpaudit report html"):
        checked(run_dir)


def test_a_page_whose_key_is_elsewhere_by_now_is_as_good(run_dir: RunDir) -> None:
    run_dir.file(custody.SEAL_KEY).unlink()
    found = checked(run_dir)
    assert found.difference is None and found.custody == chain.UNSEALED


@pytest.mark.parametrize(("base", "licence"), [("nobody/not-here", "mit"), ("builtin:tiny", None)])
def test_the_licence_of_a_base_that_is_gone_is_as_the_report_says(
    run_dir: RunDir, base: str, licence: str | None
) -> None:
    """Where the base is there, an edited licence is an edit."""
    written = Report.read(run_dir, "report/report.json")
    of = replace(written.identity, base=replace(written.identity.base, name=base, licence=None))
    held = {"identity": {"base": {"licence": "mit"}}}
    assert verify_report._as_then(replace(written, identity=of), held).identity.base.licence == licence


def test_results_that_are_newer_than_the_page_are_no_edit(run_dir: RunDir, made: Made) -> None:
    run_dir.file("evaluate/summary.json").unlink()
    with pytest.raises(
        UsageError, match=r"an earlier state of evaluate/summary\.json; type `dpaudit report html --run "
    ):
        checked(run_dir)


@pytest.mark.parametrize("sealed", [False, True])
def test_an_edited_figure_of_the_public_edition_is_named(sealed: bool, run_dir: RunDir, made: Made) -> None:
    page, _ = report_public.run(run_dir, made[1])
    if not sealed:
        found = checked(run_dir)
        assert found.difference is None and report_public.PAGE in found.recomputed
        assert not any("public" in file for file in found.not_there)
    html = page.read_text(encoding="utf-8")
    at = html.index("</data>", html.index("epsilon_spent"))
    page.write_text(html[:at] + "7" + html[at:], encoding="utf-8")
    if sealed:
        seal(run_dir, report_public.PAGE)
    differs = checked(run_dir).difference
    assert differs is not None and differs.file == report_public.PAGE and differs.got.endswith("7'")
    assert differs.key.endswith("/epsilon_spent")


def test_an_older_public_edition_is_out_of_date(run_dir: RunDir, made: Made) -> None:
    report_public.run(run_dir, made[1])
    found = measured_again(run_dir)
    report.run(run_dir, made[1], QUIET)
    way = f"an earlier state of {found}; type `dpaudit report html --public --run "
    with pytest.raises(UsageError, match=rf"report/public\.html: .*{way}"):
        checked(run_dir)


def measured_again(run_dir: RunDir) -> str:
    """A result of other bytes and the same figures."""
    file = "audit/sft-eps1/extraction.json"
    data = run_dir.read_json(file)
    data["inputs"] = dict(data["inputs"]) | {
        "records/evaluation.json": run_dir.digest("records/evaluation.json")
    }
    fabricate.rewrite(run_dir, file, data)
    return file


def test_a_run_that_was_begun_later_on_the_same_data_is_no_edit(run_dir: RunDir) -> None:
    beside = RunDir(run_dir.path.parent / "later")
    shutil.copytree(run_dir.path, beside.path)
    manifest = beside.read_json(chain.CORPUS) | {"same_data": [run_dir.name]}
    beside.file(chain.CORPUS).write_text(
        json.dumps(custody.stamped(manifest, chain.CORPUS, seal_key(beside.path)))
    )
    with pytest.raises(UsageError, match="one of other runs beside this one; type `dpaudit attack mia"):
        checked(run_dir)


def test_a_run_under_another_name_is_no_edit(run_dir: RunDir) -> None:
    other = RunDir(run_dir.path.rename(run_dir.path.with_name('it\'s "a" <b>')))
    with pytest.raises(UsageError, match="one of this run under another name; type `dpaudit report html"):
        checked(other)


def test_without_coins_nothing_is_said(run_dir: RunDir) -> None:
    shutil.rmtree(run_dir.file("secret"))
    with pytest.raises(UsageError, match="restore the run's secret/ folder"):
        checked(run_dir)


def test_no_report_and_one_of_another_version_are_one_line(run_dir: RunDir) -> None:
    data = held(run_dir, "report/report.json") | {"format": "report/1"}
    put(run_dir, "report/report.json", data, "seal")
    with pytest.raises(UsageError, match=f"expected {Report.FORMAT}, got report/1; type `dpaudit"):
        checked(run_dir)
    shutil.rmtree(run_dir.file("report"))
    with pytest.raises(UsageError, match=r"report\.json: expected a finished output, got no such file"):
        checked(run_dir)


def test_the_commitment_is_compared(run_dir: RunDir) -> None:
    now = chain.commitment_of(run_dir)
    found = checked(run_dir, now)
    assert found.difference is None and found.commitment == "the same as noted before"
    other = checked(run_dir, "0" * 64).difference
    assert other is not None and (other.file, other.got) == ("the commitment", now)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        checked(run_dir, "abc")


def test_the_judge_is_replayed(judged: Made, tmp_path: Path) -> None:
    found = checked(RunDir(Path(shutil.copytree(judged[0].path, tmp_path / judged[0].name))))
    assert found.difference is None and {"judge/summary.json", "judge/passport.json"} <= set(found.recomputed)


@pytest.mark.parametrize("mend", ["hash", "seal", "no key"])
def test_an_edited_passport_is_named_from_the_judges_own_replies(
    mend: str, judged: Made, tmp_path: Path
) -> None:
    run_dir = RunDir(Path(shutil.copytree(judged[0].path, tmp_path / judged[0].name)))
    data = held(run_dir, "judge/summary.json")
    data["passport"]["swap"]["rate"] = 0.9999
    put(run_dir, "judge/summary.json", data, mend)
    if mend == "no key":  # no reply can be read without it: the page was made from other results
        with pytest.raises(UsageError, match="an earlier state of judge/summary"):
            checked(run_dir)
        return
    there = checked(run_dir).difference
    assert there is not None and (there.file, there.key) == ("judge/summary.json", "/passport/swap/rate")
    assert there.in_report == "/judge/passport/swap/rate"


def test_an_altered_reply_of_the_judge_is_no_reply(judged: Made, tmp_path: Path) -> None:
    run_dir = RunDir(Path(shutil.copytree(judged[0].path, tmp_path / judged[0].name)))
    file = run_dir.file(REPLIES)
    first, *rest = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text(first.replace('"', "'", 1) + "".join(rest), encoding="utf-8")
    there = checked(run_dir).difference
    assert there is not None and there.file == REPLIES and there.got == "1 without one"


def test_another_rubric_by_now_is_said_and_what_it_judged_rests_on_its_hash(
    judged: Made, tmp_path: Path
) -> None:
    run_dir = RunDir(Path(shutil.copytree(judged[0].path, tmp_path / judged[0].name)))
    rules = Path(str(judged[1].suite.judging and judged[1].suite.judging.rubric))
    text = rules.read_text(encoding="utf-8")
    rules.write_text(text.replace("title: Toy", "title: Other"), encoding="utf-8")
    try:
        found = checked(run_dir)
    finally:
        rules.write_text(text, encoding="utf-8")
    assert (
        found.difference is None
        and "is not the one that was judged by" in found.hash_checked["judge/summary.json"]
    )


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"inputs": 3}', "\x00", json.dumps({"format": Report.FORMAT}), "9" * 5000]
)
def test_a_report_that_is_no_report_is_told(content: str, run_dir: RunDir) -> None:
    run_dir.file("report/report.json").write_text(content, encoding="utf-8")
    with contextlib.suppress(UsageError):  # a file without a format is of another version
        found = checked(run_dir).difference
        assert found is not None and found.file == "report/report.json"


@pytest.mark.parametrize("file", ["report/report.json", "report/index.html", PRIMARY, "judge/summary.json"])
def test_what_is_no_file_is_told_and_not_waited_for(file: str, run_dir: RunDir) -> None:
    path = run_dir.file(file)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with contextlib.suppress(UsageError):  # no report.json is no report
        found = checked(run_dir).difference
        assert found is not None and (found.file, found.got) == (file, "a special file")
    path.unlink()
    path.symlink_to("/etc/hostname")
    found = checked(run_dir).difference
    assert found is not None and found.file == file


def test_a_folder_of_scratch_is_left_by_nobody(run_dir: RunDir) -> None:
    place = Path(tempfile.gettempdir())
    before = set(place.glob("dpaudit-*"))
    checked(run_dir)
    run_dir.file("attack/sft-eps8/loss.parquet").unlink()
    with pytest.raises(UsageError, match=r"an earlier state of audit/sft-eps8/loss\.json"):
        checked(run_dir)
    assert set(place.glob("dpaudit-*")) <= before


def test_a_run_that_was_only_trained_says_what_is_missing(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path, ("train",))
    for arm in plan.suite.grid.arms:
        ledger = run_dir.read_json(f"train/{arm.name}/privacy.json")
        del ledger["epsilon_rdp"]
        spent = [row for row in verify_report._spent(ledgers.Ledger.from_json(ledger)) if arm.private]
        ledger |= {"epsilon_pld": spent[0][1]} if spent else {}
        fabricate.rewrite(run_dir, f"train/{arm.name}/privacy.json", ledger)
    report.run(run_dir, plan, QUIET)
    found = checked(run_dir)
    assert found.difference is None
    lacking = ["report/public.html", "audit/", "evaluate/", "judge/summary.json"]
    assert [line.split()[0] for line in found.not_there] == lacking
