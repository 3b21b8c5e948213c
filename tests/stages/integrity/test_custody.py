"""Nothing that was altered, exchanged or lost is taken for what a run wrote: it is named, with the way out,
or made again.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpaudit.commands import overview
from dpaudit.commands.plan import tell
from dpaudit.errors import UsageError
from dpaudit.pipeline import sequence
from dpaudit.pipeline.ahead import Wanted
from dpaudit.planting import audit_key, plant
from dpaudit.signals.recipe import load as load_recipe
from dpaudit.stages import declared, evaluate, judge, report
from dpaudit.stages.attack import attack, scores, shadows
from dpaudit.stages.audit import audit
from dpaudit.stages.integrity import custody as chain
from dpaudit.stages.integrity import weights
from dpaudit.stages.judge_replies import REPLIES
from dpaudit.stages.train import merge, train
from dpaudit.storage import custody, notes, run_store
from dpaudit.storage.custody import SEAL_KEY
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations, suite
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Judging, Lora, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEPS = Schedule(batch=8, steps=4, learning_rate=0.01)
ARM, OTHER = "sft-eps8", "sft-inf"


def plan_of(base: Path, rubric: Path) -> Plan:
    made = Suite(
        name="toy",
        training=Training(
            private=STEPS, nonprivate=STEPS, clip=0.5, lora=Lora(rank=2, alpha=8), checkpoint_every=2
        ),
        model=Model(str(base), max_length=80),
        data=Data(preference=None, patients=24, heldout=4),
        candidates=Candidates(canaries=100, records=4, extraction=4, extraction_repetitions=1),
        grid=Grid(epsilons=(8.0,)),
        judging=Judging(str(rubric), prompts=2, max_new_tokens=4, against=("inf",)),
    )
    return Plan(made, seed=3)


@pytest.fixture(scope="module")
def plan(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    rubric = tmp_path_factory.mktemp("judges") / "toy.yaml"
    rubric.write_text(
        f"name: toy\ntitle: Toy\nkind: likelihood\nmodel: {toy_model_dir}\ncontrols: {{count: 4, least: 1}}\n"
    )
    return plan_of(toy_model_dir, rubric)


def finish(run_dir: RunDir, plan: Plan) -> None:
    """Every stage that a run has; what is current is left alone."""
    train.run(run_dir, plan, QUIET, workers=1)
    for kind, recipe in (("mia", "calibrated"), ("extract", "extraction")):
        if any(not run_dir.file(f"attack/{arm}/{recipe}.parquet").is_file() for arm in (ARM, OTHER)):
            attack.run(run_dir, plan, QUIET, kind, recipes=[recipe])  # type: ignore[arg-type]
        audit.run(run_dir, plan, QUIET, kind, recipes=[recipe])  # type: ignore[arg-type]
    evaluate.run(run_dir, plan, QUIET)
    judge.run(run_dir, plan, QUIET)
    report.run(run_dir, plan, QUIET)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = sequence.train(plan, tmp_path_factory.mktemp("runs"), QUIET, workers=1)
    finish(run_dir, plan)
    return run_dir.path


@pytest.fixture(scope="module")
def another(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run of the very same plan: other coins, other noise, other keys."""
    run_dir = sequence.train(plan, tmp_path_factory.mktemp("others"), QUIET, workers=1)
    attack.run(run_dir, plan, QUIET, "mia", recipes=["calibrated"])
    return run_dir.path


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(finished, tmp_path / "runs" / finished.name)))


# ---- what may happen to a file


def delete(file: Path, _: Path) -> None:
    file.unlink()


def truncate(file: Path, _: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def digit(file: Path, _: Path) -> None:
    """One digit is another, in the middle of the file or as near to it as one that says something else."""
    data = file.read_bytes()
    places = [at for at, byte in enumerate(data) if 48 <= byte <= 57] or [len(data) // 2]
    for at in sorted(places, key=lambda place: abs(place - len(data) // 2)):
        other = data[:at] + bytes([48 + (data[at] - 47) % 10]) + data[at + 1 :]
        if file.suffix != ".json" or read(other) != read(
            data
        ):  # the last digit of a float may be no other number
            file.write_bytes(other)
            return


def read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def high_bit(file: Path, _: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0x80
    file.write_bytes(data)


def swap(file: Path, other: Path) -> None:
    shutil.copy(other, file)


NOTES = (
    custody.RELEASE,
    *(f"custody/results/{stage}/files.json" for stage in ("attack", "audit", "evaluate", "judge")),
    f"custody/trained/{ARM}.json",
)
FAULTS = (delete, truncate, digit, high_bit, swap)
FILES = (
    "plan.json",
    "corpus/manifest.json",
    "corpus/candidates.jsonl",
    "corpus/heldout.jsonl",
    "corpus/choices.jsonl",
    "secret/coins.json",
    "secret/hash.key",
    "secret/commitment.json",
    SEAL_KEY,
    *(
        f"train/{ARM}/{name}"
        for name in (
            "manifest.json",
            "privacy.json",
            "train.json",
            "steps.jsonl",
            "adapter/adapter_model.safetensors",
            "adapter/adapter_config.json",
            "adapter/README.md",
            "adapter/tokenizer.json",
        )
    ),
    f"attack/{ARM}/calibrated.parquet",
    f"attack/{ARM}/extraction.parquet",
    f"audit/{ARM}/calibrated.json",
    f"audit/{ARM}/extraction.json",
    "audit/blind.json",
    "audit/summary.json",
    f"evaluate/{ARM}.json",
    "evaluate/summary.json",
    "judge/summary.json",
    REPLIES,
    "audit/near_duplicates.json",
    "records/claims.json",
    "custody/records/chain.json",
    *NOTES,
)


def figures(run_dir: RunDir) -> dict[str, Any]:
    """Every figure of the page by its place, without the key's state."""
    found: dict[str, Any] = {}

    def walk(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{place}/{key}")
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, f"{place}/{inner.get('arm', index) if isinstance(inner, dict) else index}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[place] = value

    walk(json.loads(run_dir.file("report/report.json").read_text(encoding="utf-8")), "")
    return found


def outcome(
    run_dir: RunDir, plan: Plan, file: str, known: dict[str, Any], work: Callable[[RunDir, Plan], Any]
) -> str:
    """ "named", or "clean" where what the page says then is what it said before. Anything else fails the
    test.
    """
    run_dir.file("report/report.json").unlink(missing_ok=True)
    try:
        work(run_dir, plan)
    except UsageError as error:
        told = str(error)
        assert error.exit_code == 2 and "\n" not in told and error.remedy
        assert Path(file).name in told or Path(file).parts[0] in told, (file, told)
        return "named"
    assert {key: value for key, value in figures(run_dir).items() if known.get(key, value) != value} == {}
    return "clean"


def tried(
    run_dir: RunDir, plan: Plan, file: str, fault: Callable[[Path, Path], None], another: Path
) -> tuple[str, str]:
    """What the page, and what typing everything again, make of a fault."""
    known = figures(run_dir)
    fault(run_dir.file(file), another / file)
    opened = RunDir(run_dir.path)
    page = outcome(
        opened,
        plan,
        file,
        known,
        lambda run, plan: (chain.require_run(run), report.run(run, declarations.plan_of(run), QUIET)),
    )
    return page, outcome(opened, plan, file, known, finish)


QUICK = [
    ("plan.json", digit),
    ("corpus/candidates.jsonl", swap),
    ("secret/coins.json", swap),
    (SEAL_KEY, swap),
    (f"train/{ARM}/privacy.json", digit),
    (f"train/{ARM}/privacy.json", delete),
    (f"audit/{ARM}/calibrated.json", digit),
    (f"attack/{ARM}/calibrated.parquet", swap),
    ("audit/blind.json", high_bit),
    (f"evaluate/{ARM}.json", truncate),
]


@pytest.mark.parametrize(("file", "fault"), QUICK, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_named_or_healed(
    file: str, fault: Callable[[Path, Path], None], run_dir: RunDir, plan: Plan, another: Path
) -> None:
    tried(run_dir, plan, file, fault, another)


@pytest.mark.slow
def test_every_fault_of_every_file_is_named_or_healed(
    finished: Path, plan: Plan, another: Path, tmp_path: Path
) -> None:
    """180 of them; of score files a byte may change that no row rests on, and a reply of a judge that was
    altered is none.
    """
    assert len(FILES) == 36
    finish(RunDir(another), plan)
    for number, (file, fault) in enumerate((file, fault) for file in FILES for fault in FAULTS):
        copy = RunDir(Path(shutil.copytree(finished, tmp_path / str(number) / finished.name)))
        page, again = tried(copy, plan, file, fault, another)
        same = (finished / file).read_bytes() == (another / file).read_bytes()
        if fault is not delete and not same and not file.endswith((".parquet", REPLIES)):
            assert "named" in (page, again) or file == SEAL_KEY, (file, fault.__name__)
        shutil.rmtree(copy.path)


# ---- the swap that was seen: weights without any privacy under the ledger of epsilon 8


def stages_of(run_dir: RunDir, plan: Plan, out: Path) -> dict[str, Callable[[], Any]]:
    return {
        "train": lambda: train.run(run_dir, plan, QUIET, workers=1),
        "attack mia": lambda: sequence.attack(run_dir, plan, QUIET, "mia"),
        "attack extract": lambda: sequence.attack(run_dir, plan, QUIET, "extract"),
        "shadows": lambda: shadows.ensure(run_dir, plan, QUIET, arm_of(plan, OTHER), 2, workers=1),
        "eval": lambda: evaluate.run(run_dir, plan, QUIET),
        "judge": lambda: judge.run(run_dir, plan, QUIET),
        "judge validate": lambda: judge.validate(run_dir, plan, QUIET),
        "report": lambda: report.run(run_dir, plan, QUIET),
        "merge": lambda: merge.run(merge.of_run(run_dir, plan, ARM), out, "1GB", QUIET),
        "merge of a folder": lambda: merge.run(
            merge.of_folder(run_dir.file(f"train/{ARM}/adapter")), out, "1GB", QUIET
        ),
        "verify --run": lambda: declared.verdicts(run_dir, plan),
    }


def arm_of(plan: Plan, name: str) -> Any:
    return next(arm for arm in plan.suite.grid.arms if arm.name == name)


def test_an_adapter_in_anothers_place_is_refused_by_every_stage(
    run_dir: RunDir, plan: Plan, tmp_path: Path
) -> None:
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(
            run_dir.file(f"train/{OTHER}/adapter/{name}"), run_dir.file(f"train/{ARM}/adapter/{name}")
        )
    before = run_dir.file(f"train/{ARM}/adapter/adapter_model.safetensors").read_bytes()
    for name, stage in stages_of(run_dir, plan, tmp_path / "merged").items():
        with pytest.raises(UsageError, match=r"adapter_model\.safetensors: ") as error:
            stage()
        assert error.value.exit_code == 2, name
    assert not (tmp_path / "merged").exists()
    assert (
        run_dir.file(f"train/{ARM}/adapter/adapter_model.safetensors").read_bytes() == before
    )  # nobody retrained


def test_a_whole_arm_in_anothers_place_is_refused(run_dir: RunDir, plan: Plan) -> None:
    shutil.rmtree(run_dir.file(f"train/{ARM}"))
    shutil.copytree(run_dir.file(f"train/{OTHER}"), run_dir.file(f"train/{ARM}"))
    with pytest.raises(UsageError, match=rf"{ARM}/manifest\.json"):
        report.run(run_dir, plan, QUIET)


def test_a_file_that_training_did_not_write_is_refused(run_dir: RunDir, plan: Plan) -> None:
    """PEFT would take other tensors of a folder first or with the rest."""
    run_dir.file(f"train/{ARM}/adapter/adapter_model.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"adapter_model\.bin: expected files that this run wrote"):
        evaluate.run(run_dir, plan, QUIET)


def test_a_correct_run_passes_and_nothing_is_made_again(run_dir: RunDir, plan: Plan) -> None:
    files = [p for p in run_dir.path.rglob("*") if p.is_file() and "report" not in p.parts]
    before = {p: p.stat().st_mtime_ns for p in files}
    chain.require(run_dir, plan)
    finish(run_dir, plan)
    changed = {p.relative_to(run_dir.path).as_posix() for p in files if p.stat().st_mtime_ns != before[p]}
    assert changed <= {"judge/rubric.json", "evaluate/tasks.json"}


def test_without_the_key_hashes_are_checked_and_it_is_said(run_dir: RunDir, plan: Plan) -> None:
    run_dir.file(SEAL_KEY).unlink()
    report.run(run_dir, plan, QUIET)
    assert run_dir.read_json("report/report.json")["run"]["custody"] == chain.UNSEALED
    digit(run_dir.file(f"audit/{ARM}/calibrated.json"), run_dir.path)
    with pytest.raises(UsageError, match=r"calibrated\.json: .* got an altered file"):
        report.run(run_dir, plan, QUIET)


def test_what_would_be_refused_once_the_key_is_back_is_not_written(
    run_dir: RunDir, plan: Plan, tmp_path: Path
) -> None:
    """Nor is a run without its key at an end: whoever says that it is lost goes on without seals."""
    measured = run_dir.read_json(f"evaluate/{ARM}.json")["heldout"]
    said = run_dir.read_json("corpus/manifest.json")["commitment"]
    run_dir.file(SEAL_KEY).rename(tmp_path / "key")
    working = {
        name: work
        for name, work in stages_of(run_dir, plan, tmp_path / "merged").items()
        if not name.startswith(("train", "merge", "report", "verify"))
    }
    working["train"] = lambda: sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    before = {path: path.stat().st_mtime_ns for path in run_dir.path.rglob("*")}
    for name, work in working.items():
        with pytest.raises(UsageError, match=r"seal\.key: .* put it back; if it is lost for good") as error:
            work()
        assert error.value.exit_code == 2, name
    assert {path: path.stat().st_mtime_ns for path in run_dir.path.rglob("*")} == before
    assert chain.noted(run_dir, said)["noted_before"] == "the same"  # a key that is away is no other plan

    run_dir.file(custody.SEAL_LOST).touch()
    run_dir.file(f"evaluate/{ARM}.json").unlink()
    evaluate.run(run_dir, plan, QUIET)
    report.run(run_dir, plan, QUIET)
    assert run_dir.read_json(f"evaluate/{ARM}.json")["heldout"] == measured
    assert run_dir.read_json("report/report.json")["run"]["custody"] == chain.GIVEN_UP

    run_dir.file(custody.SEAL_LOST).unlink()
    (tmp_path / "key").rename(run_dir.file(SEAL_KEY))
    with pytest.raises(
        UsageError, match=rf"evaluate/{ARM}\.json: .* got a file without a seal; delete it and type"
    ):
        report.run(run_dir, plan, QUIET)


def rows_changed(file: Path, _: Path) -> None:
    """Other scores under what the file says of itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    values = [value + 1 for value in table["value"].to_pylist()]
    pq.write_table(
        table.set_column(3, "value", pa.array(values, pa.float64())).replace_schema_metadata(
            table.schema.metadata
        ),
        file,
    )


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (f"attack/{ARM}/calibrated.parquet", rows_changed),
        ("audit/near_duplicates.json", digit),
        ("judge/judgements.jsonl", delete),
        ("report/index.html", digit),
    ],
)
def test_a_result_that_was_altered_is_named_alike_by_every_reader(
    file: str, fault: Callable[[Path, Path], None], run_dir: RunDir, plan: Plan
) -> None:
    fault(run_dir.file(file), run_dir.path)
    claim = suite.Declared(ARM, 8.0, 1e-5, plan.suite.training.unit, "add_or_remove")
    readers = {
        "report": lambda: report.run(run_dir, plan, QUIET),
        "show": lambda: overview.details(run_dir, plan),
        "verify": lambda: declared.require_ready(
            run_dir, replace(plan, suite=replace(plan.suite, claims=(claim,)))
        ),
    }
    for name, read in readers.items():
        with pytest.raises(UsageError, match=rf"{file}: .*type `dpaudit ") as error:
            read()
        assert error.value.exit_code == 2 and "earlier" not in str(error.value), name
    assert file in overview.run_row(run_dir)["caveat"]


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (f"audit/{ARM}/extraction.json", "attack extract"),
        ("audit/summary.json", "attack mia"),
        (f"evaluate/{ARM}.json", "eval"),
    ],
)
def test_a_result_that_is_gone_is_missed(
    file: str, command: str, run_dir: RunDir, plan: Plan, capsys: Any
) -> None:
    assert not run_dir.gone() and "gone" not in overview.details(run_dir, plan)
    run_dir.file(file).unlink()
    command += f" --run {run_dir.name}"
    page = report.run(run_dir, plan, Progress()).read_text()
    assert f"<code>{file}</code> (type <code>dpaudit {command}</code>)" in page
    assert f"{file}, which is gone, type `dpaudit {command}`" in capsys.readouterr().err
    assert overview.details(run_dir, plan)["gone"] == [{"file": file, "type": f"dpaudit {command}"}]


def test_a_deleted_folder_of_results_is_missed_by_every_list(
    run_dir: RunDir, plan: Plan, capsys: Any
) -> None:
    shutil.rmtree(run_dir.file("attack"))
    assert "gone, `dpaudit show" in overview.run_row(run_dir)["caveat"]
    assert f"attack/{ARM}/calibrated.parquet" in {
        row["file"] for row in overview.details(run_dir, plan)["gone"]
    }
    page = report.run(run_dir, plan, Progress()).read_text()
    assert f"<code>attack/{ARM}/calibrated.parquet</code>" in page
    assert "more, which are gone, type `dpaudit attack mia --run " in capsys.readouterr().err


@pytest.mark.parametrize("note", NOTES)
def test_a_lost_note_is_missed_and_its_loss_is_told(
    note: str, run_dir: RunDir, plan: Plan, capsys: Any
) -> None:
    """A note that is deleted would hide the deletion of what it names."""
    run_dir.file(note).unlink()
    run_dir.file(f"audit/{ARM}/calibrated.json").unlink()
    lost = rf"{note}: expected the file as this run wrote it, got no such file; .* `dpaudit run SUITE`"
    for reader in (overview.details, report.run):
        with pytest.raises(UsageError, match=lost):
            reader(run_dir, plan, *[QUIET] * (reader is report.run))
    assert note in overview.run_row(run_dir)["caveat"]
    sequence.train(plan, run_dir.path.parent, Progress(), workers=1)
    assert f"{note}: lost and written again" in capsys.readouterr().err
    assert f"A list of what this run had is lost.</strong> <code>{note}</code>" in (
        report.run(run_dir, plan, QUIET).read_text()
    )


def test_the_trainings_of_a_run_whose_corpus_and_arms_are_gone_are_known(run_dir: RunDir, plan: Plan) -> None:
    for folder in ("corpus", "train", "secret"):
        shutil.rmtree(run_dir.file(folder))
    run_dir.file(custody.RELEASE).unlink()
    with pytest.raises(UsageError, match=r"corpus/manifest\.json: .* got no such file; .* a second release"):
        sequence.train(plan, run_dir.path.parent, QUIET, workers=1)


def test_results_behind_a_link_and_arms_of_others_are_refused(run_dir: RunDir, plan: Plan) -> None:
    folder = run_dir.file(f"audit/{ARM}")
    folder.rename(run_dir.path / "elsewhere")
    folder.symlink_to(run_dir.path / "elsewhere")
    with pytest.raises(UsageError, match=rf"audit/{ARM}: expected a file that this run wrote, got a link"):
        overview.details(run_dir, plan)
    folder.unlink()
    shutil.copytree(run_dir.file(f"train/{ARM}"), run_dir.file("train/sft-eps3"))
    with pytest.raises(
        UsageError, match=r"train/sft-eps3: expected arms of this run's plan: .*; move it out"
    ):
        report.run(run_dir, plan, QUIET)


def test_scores_of_an_arm_that_is_exchanged_meanwhile_are_not_those_of_its_successor(
    run_dir: RunDir, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = attack._load

    def load(*words: Any) -> Any:
        model = loaded(*words)
        shutil.rmtree(run_dir.file(f"train/{ARM}"))
        train.run(run_dir, plan, QUIET, [ARM], workers=1)
        return model

    monkeypatch.setattr(attack, "_load", load)
    attack.run(run_dir, plan, QUIET, "mia", arms=[ARM], recipes=["calibrated"])
    assert not scores.scores_are_current(run_dir, plan, ARM, load_recipe("calibrated"))
    monkeypatch.setattr(attack, "_load", loaded)
    attack.run(run_dir, plan, QUIET, "mia", arms=[ARM], recipes=["calibrated"])
    assert scores.scores_are_current(run_dir, plan, ARM, load_recipe("calibrated"))


def test_no_other_coins_are_thrown_over_a_release(run_dir: RunDir, plan: Plan) -> None:
    for folder in ("corpus", "train", "secret"):
        shutil.rmtree(run_dir.file(folder))
    with pytest.raises(UsageError, match=r"corpus/manifest\.json: .* got no such file; .* a second release"):
        sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    assert not any(run_dir.file(folder).exists() for folder in ("corpus", "train", "secret"))


def test_an_arm_that_is_trained_again_is_told(
    run_dir: RunDir, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"note: {ARM} was trained before; training it again is a second release"
    sequence.train(plan, run_dir.path.parent, Progress(), workers=1)
    assert said not in capsys.readouterr().err
    assert "times on the same records" not in report.run(run_dir, plan, QUIET).read_text()
    shutil.rmtree(run_dir.file(f"train/{ARM}"))
    sequence.train(plan, run_dir.path.parent, Progress(), workers=1)
    assert said in capsys.readouterr().err
    assert len(notes.trained(run_dir, ARM)) == 2
    assert f"<code>{ARM}</code> was trained" in report.run(run_dir, plan, QUIET).read_text()


def test_a_run_under_another_name_is_told_and_not_trained_again(run_dir: RunDir, plan: Plan) -> None:
    renamed = RunDir(run_dir.path.rename(run_dir.path.with_name("renamed")))
    with pytest.raises(
        UsageError, match=rf"renamed: .* rename it to \S*{run_dir.name}, or .* a second release"
    ):
        sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    with pytest.raises(UsageError, match=r"renamed: .* a second release"):
        tell(plan, Wanted(is_measured=False), run_dir.path.parent, as_json=True)
    assert [path.name for path in run_dir.path.parent.glob("[!.]*")] == ["renamed"]
    report.run(renamed, plan, QUIET)  # whatever else is asked of it goes on
    renamed.path.rename(run_dir.path)
    assert sequence.train(plan, run_dir.path.parent, QUIET, workers=1) == run_dir


def test_an_edit_with_its_hash_made_anew_breaks_the_seal(run_dir: RunDir, plan: Plan) -> None:
    """Whoever has no key can write the right hash under other figures, and no seal."""
    file = run_dir.file(f"train/{ARM}/privacy.json")
    found = json.loads(file.read_text())
    found["claim"]["epsilon"] = 1.0
    seal = found[custody.KEY]["seal"]
    forged = custody.stamped(found, f"train/{ARM}/privacy.json", None)
    forged[custody.KEY] |= {"seal": seal, "key": found[custody.KEY]["key"]}
    file.write_text(json.dumps(forged))
    with pytest.raises(UsageError, match=r"privacy\.json: .* got an altered file"):
        run_dir.read_json(f"train/{ARM}/privacy.json")


def test_a_lost_plan_deletes_nothing(run_dir: RunDir, plan: Plan) -> None:
    run_dir.file("plan.json").unlink()
    with pytest.raises(UsageError, match=r"plan\.json: .* got no such file"):
        sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    assert run_dir.file("secret/coins.json").is_file() and run_dir.file(f"train/{ARM}/adapter").is_dir()
    with pytest.raises(UsageError, match=r"plan\.json: .* got no such file"):
        declarations.plan_of(run_store.find(None, run_dir.path.parent))


def test_a_lost_manifest_throws_no_other_coins(run_dir: RunDir, plan: Plan) -> None:
    coins = run_dir.file("secret/coins.json").read_bytes()
    run_dir.file("corpus/manifest.json").unlink()
    with pytest.raises(UsageError, match=r"corpus/manifest\.json: .* got no such file"):
        sequence.train(plan, run_dir.path.parent, QUIET, workers=1)
    assert run_dir.file("secret/coins.json").read_bytes() == coins


def test_the_hash_key_is_blamed_and_not_what_it_hashed(run_dir: RunDir, plan: Plan) -> None:
    run_dir.file("secret/hash.key").write_bytes(b"0" * 32)
    with pytest.raises(UsageError, match=r"secret/hash\.key: expected the key that this run started with"):
        train.run(run_dir, plan, QUIET, workers=1)
        audit.run(run_dir, plan, QUIET, "mia", recipes=["calibrated"])


# ---- checkpoints


class Stop(Progress):
    """Interrupts a training after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(quiet=True)
        self.steps = steps

    def task(self, description: str, total: int | None = None) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def counting() -> Iterator[Callable[[int], None]]:
            done = 0

            def advance(n: int = 1) -> None:
                nonlocal done
                done += n
                if description.startswith("training") and done >= self.steps:
                    raise KeyboardInterrupt

            yield advance

        return counting()


@pytest.fixture(scope="module")
def halves(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of one plan whose private arm was stopped after the first checkpoint."""
    places = []
    for name in ("one", "two"):
        runs = tmp_path_factory.mktemp(name)
        with pytest.raises(KeyboardInterrupt):
            sequence.train(plan, runs, Stop(3), only=[ARM], workers=1)
        places.append(next(p for p in runs.iterdir() if not p.name.startswith(".")))
    return places[0], places[1]


PARTIAL = f"train/.{ARM}.partial"
CHECKPOINT = (
    f"{PARTIAL}/privacy.json",
    f"{PARTIAL}/2/state.json",
    f"{PARTIAL}/2/state.safetensors",
    f"secret/states/{ARM}.2.json",
)


@pytest.mark.parametrize(
    "fault",
    [digit, *(pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS if fault is not digit)],
    ids=lambda fault: fault.__name__,
)
def test_a_checkpoint_that_was_altered_is_refused(
    fault: Callable[[Path, Path], None], halves: tuple[Path, Path], plan: Plan, tmp_path: Path
) -> None:
    for number, file in enumerate(CHECKPOINT):
        copy = RunDir(Path(shutil.copytree(halves[0], tmp_path / str(number) / halves[0].name)))
        fault(copy.file(file), halves[1] / file)
        with pytest.raises(UsageError) as error:
            train.run(copy, plan, QUIET, only=[ARM], workers=1)
        assert Path(file).name in str(error.value) and f".{ARM}.partial" in error.value.remedy, file
        assert copy.file(PARTIAL).is_dir() and not copy.file(f"train/{ARM}").exists()


def test_fewer_steps_in_a_checkpoint_are_refused(
    halves: tuple[Path, Path], plan: Plan, tmp_path: Path
) -> None:
    """The ledger would tell of fewer steps than were spent."""
    copy = RunDir(Path(shutil.copytree(halves[0], tmp_path / halves[0].name)))
    file = copy.file(f"{PARTIAL}/2/state.json")
    told = json.loads(file.read_text())
    told["steps"] = told["steps"][:1]
    file.write_text(json.dumps(told))
    with pytest.raises(UsageError, match=r"state\.json: .* got an altered file"):
        train.run(copy, plan, QUIET, only=[ARM], workers=1)


def test_an_untouched_checkpoint_goes_on(halves: tuple[Path, Path], plan: Plan, tmp_path: Path) -> None:
    copy = RunDir(Path(shutil.copytree(halves[0], tmp_path / halves[0].name)))
    train.run(copy, plan, QUIET, only=[ARM], workers=1)
    assert copy.read_json(f"train/{ARM}/privacy.json")["steps_done"] == 4


# ---- adapters elsewhere; the commitment


def test_a_copied_adapter_is_told_by_its_run(run_dir: RunDir, tmp_path: Path) -> None:
    copy = shutil.copytree(run_dir.file(f"train/{ARM}/adapter"), tmp_path / "copy")
    shutil.copy(run_dir.file(f"train/{ARM}/privacy.json"), copy)
    [found] = chain.origins(copy, [run_dir])
    assert (found["run"], found["arm"], found["epsilon"], found["ledger_beside"]) == (
        run_dir.name,
        ARM,
        8.0,
        True,
    )
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 80}))
    with pytest.raises(UsageError, match=r"adapter_config\.json: expected the file of"):
        chain.origins(copy, [run_dir])
    with pytest.raises(
        UsageError, match=r"adapter_config\.json: expected the settings that .* got other settings"
    ):
        merge.run(merge.of_folder(copy), tmp_path / "out", "1GB", QUIET)
    high_bit(copy / "adapter_model.safetensors", copy)
    with pytest.raises(UsageError, match="expected the weights of an arm of a run here, got other weights"):
        chain.origins(copy, [run_dir])


def test_a_ledger_beside_other_weights_is_refused_anywhere(run_dir: RunDir, tmp_path: Path) -> None:
    copy = shutil.copytree(run_dir.file(f"train/{OTHER}/adapter"), tmp_path / "copy")
    shutil.copy(run_dir.file(f"train/{ARM}/privacy.json"), copy)
    with pytest.raises(
        UsageError, match=r"adapter_model\.safetensors: expected the weights that .* was written for"
    ):
        merge.run(merge.of_folder(copy), tmp_path / "out", "1GB", QUIET)
    assert not (tmp_path / "out").exists()


def test_a_merged_model_is_bound_to_its_ledger(run_dir: RunDir, plan: Plan, tmp_path: Path) -> None:
    from dpaudit.privacy import beside

    told = merge.run(merge.of_run(run_dir, plan, ARM), tmp_path / "out", "1GB", QUIET)
    assert (
        told["adapter_sha256"]
        == chain.adapter_digest(run_dir, ARM)
        in (tmp_path / "out/README.md").read_text()
    )
    found = beside.find(tmp_path / "out")
    assert told["caveat"] is None and found is not None
    assert found.data["base_files"] == weights.of_base(plan.suite.model.base)
    high_bit(tmp_path / "out/model.safetensors", tmp_path)
    with pytest.raises(
        UsageError,
        match=r"model\.safetensors: expected the weights that .* was written for, got other weights",
    ):
        beside.find(tmp_path / "out")


def test_a_commitment_binds_plan_recipes_and_coins(run_dir: RunDir) -> None:
    said = run_dir.read_json("corpus/manifest.json")["commitment"]
    assert chain.noted(run_dir, said.upper() + "\n") == {"commitment": said, "noted_before": "the same"}
    assert chain.noted(run_dir, "0" * 64)["noted_before"] == custody.ANOTHER
    coins = run_dir.read_json("secret/coins.json")["coins"]
    first = next(iter(coins))
    run_dir.write_json(
        "secret/coins.json", {"coins": coins | {first: not coins[first]}}
    )  # who holds the keys can
    assert chain.noted(run_dir, said)["noted_before"] == custody.ANOTHER


def test_the_commitment_of_a_key_binds_all_of_it(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What about question {n}?", "completion": f"Answer {n} is to rest."} for n in range(40)
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = plant.plant(tmp_path / "d.jsonl", tmp_path / "p.jsonl", tmp_path / "k.json", 100)
    key = audit_key.load(tmp_path / "k.json")
    assert audit_key.commitment(key) == told["commitment"] and len(told["commitment"]) == 64
    flipped = audit_key.AuditKey(**{**vars(key), "coins": (not key.coins[0], *key.coins[1:])})
    assert audit_key.commitment(flipped) != told["commitment"]


def test_a_commitment_is_compared_before_anything_else_is_asked_for(run_dir: RunDir, cli: Any) -> None:
    said = run_dir.read_json("corpus/manifest.json")["commitment"]
    assert cli(run_dir, said) == 0 and cli(run_dir, "0" * 64) == 1
    with pytest.raises(UsageError, match="--commitment: expected 64 hexadecimal digits"):
        chain.noted(run_dir, "abc")
    run_dir.file(f"audit/{ARM}/calibrated.json").write_text("{}")
    assert cli(run_dir, said) == 2  # the commitment is the same, and the result is not what was written


def test_a_page_that_is_gone_is_written_again(run_dir: RunDir, plan: Plan) -> None:
    """Its hash beside it stays there, and the remedy of an altered page is to delete it."""
    page = run_dir.file("report/index.html")
    digit(page, run_dir.path)
    with pytest.raises(UsageError, match=r"index.html: .*delete it and type `dpaudit report html --run "):
        report.run(run_dir, plan, QUIET)
    page.unlink()
    assert overview.run_row(run_dir)["suite"] is not None
    assert report.run(run_dir, plan, QUIET) == page and page.is_file()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *[("custody/results/audit/files.json", c) for c in ({}, {"files": 5}, {"files": [5]})],
        ("custody/results/audit/files.json", {"files": ["../../../x"]}),
        *[(f"custody/trained/{ARM}.json", c) for c in ({}, {"adapters": 5}, {"adapters": [5]})],
    ],
)
def test_lists_of_a_run_are_read_strictly(
    file: str, content: dict[str, Any], run_dir: RunDir, plan: Plan
) -> None:
    """Also where whoever holds the key sealed them."""
    run_dir.write_json(file, content)
    with pytest.raises(UsageError, match=rf"{file}: expected"):
        report.run(run_dir, plan, QUIET)


@pytest.fixture
def cli() -> Callable[[RunDir, str], int]:
    """The exit code of `verify --run NAME --commitment HEX`."""
    from typer.testing import CliRunner

    from dpaudit import cli as commands

    def typed(run_dir: RunDir, said: str) -> int:
        words = ["verify", "--run", run_dir.name, "--runs", str(run_dir.path.parent), "--commitment", said]
        done = CliRunner().invoke(commands.app, words)
        return done.exception.exit_code if isinstance(done.exception, UsageError) else done.exit_code

    return typed
