import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from dpaudit.errors import UsageError
from dpaudit.models.encode import encode
from dpaudit.models.hf_model import HFModel
from dpaudit.signals import recipe
from dpaudit.stages.attack import attack, scores
from dpaudit.stages.attack.items import items_of
from dpaudit.stages.prepare import prepare
from dpaudit.stages.prepare.candidates import load_candidates
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
MIA = ("calibrated", "difference", "error_zone", "gradient_norm", "loss", "lowercase", "min_k", "min_k_pp",
       "neighbourhood", "recall", "total_loss", "window_comparison", "zlib")  # fmt: skip
SIGNALS = {name: recipe.load(name).signal for name in MIA}
SIZES = Candidates(
    family="record_number", canaries=100, canary_length=4, records=12, extraction=4, extraction_length=2
)


def plan_of(base: Path, **changes: object) -> Plan:
    schedule = Schedule(16, 4, 0.01)
    training = Training(schedule, schedule, dpo_private=schedule)
    made = Suite(
        "attacked",
        training,
        model=Model(str(base), max_length=160),
        data=Data(preference="builtin:clinic", patients=60, heldout=4),
        candidates=SIZES,
        grid=Grid((1.0,), dpo=("sigmoid",), dpo_epsilons=(1.0,)),
    )
    return Plan(replace(made, **changes))  # type: ignore[arg-type]


def fabricate_training(run_dir: RunDir, plan: Plan, arm: Arm, adapter: Path) -> None:
    """What stage train leaves of an arm, with a ready adapter."""
    training = plan.suite.training
    folder = f"train/{arm.name}"
    shutil.copytree(adapter, run_dir.file(f"{folder}/adapter"))
    claimed: float | str = arm.epsilon if arm.private else "inf"
    ledger = {
        "claim": {
            "epsilon": claimed,
            "delta": training.delta,
            "unit": training.unit,
            "relation": training.relation,
        },
        "mechanism": {
            "noise_multiplier": 2.0 if arm.private else 0.0,
            "sampling_rate": 0.1,
            "steps": 4,
            "clip": training.clip if arm.private else None,
        },
    }
    inputs = ["plan.json", "corpus/manifest.json"]
    run_dir.write_json(f"{folder}/privacy.json", ledger, inputs)
    run_dir.write_json(f"{folder}/train.json", {"seconds": 1.0}, inputs)
    fabricate.bind(run_dir, arm.name)


def scaled(adapter: Path, folder: Path, factor: float) -> Path:
    """A copy of an adapter with its weights times `factor`: another arm."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(adapter, folder)
    file = folder / "adapter_model.safetensors"
    save_file({name: factor * weight for name, weight in load_file(file).items()}, file)
    return folder


@pytest.fixture(scope="module")
def attacked(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunDir, Plan]]:
    """A run whose attacks ran while secret/ was out of reach."""
    place = tmp_path_factory.mktemp("attack")
    plan = plan_of(toy_model_dir)
    run_dir = run_store.open_or_create(plan.to_json(), plan.suite.name, place / "runs")
    prepare.run(run_dir, plan, QUIET)
    for number, arm in enumerate(plan.suite.grid.arms):
        fabricate_training(
            run_dir, plan, arm, scaled(toy_adapter_dir, place / f"a{number}", 1 - 0.3 * number)
        )
    hidden = place / "elsewhere"
    run_dir.file("secret").rename(hidden)
    for kind in ("mia", "extract"):
        attack.run(run_dir, plan, QUIET, kind)  # type: ignore[arg-type]
    hidden.rename(run_dir.file("secret"))
    yield run_dir, plan


def test_the_attack_never_needs_the_coins(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, plan = attacked
    for arm in plan.suite.grid.arms:
        found = sorted(path.stem for path in run_dir.file(f"attack/{arm.name}").glob("*.parquet"))
        assert found == sorted((*MIA, "discoverable", "extraction", "pii"))


@pytest.mark.parametrize("name", MIA)
def test_every_candidate_has_one_number_a_recipe(attacked: tuple[RunDir, Plan], name: str) -> None:
    run_dir, plan = attacked
    candidates = load_candidates(run_dir)
    for arm in plan.suite.grid.arms:
        rows = scores.read_scores(run_dir, arm.name, name)
        canaries = {row.example for row in rows if row.kind == "canary"}
        assert canaries == {c.id for c in candidates.canaries if c.purpose == "mia"}
        assert {row.example for row in rows if row.kind == "record"} == set(candidates.records)
        made_by = recipe.load(name)
        beside = {scores.TOKENS, *([scores.REFERENCE] if made_by.reference == "base" else [])}
        named = {SIGNALS[name]} | (beside if made_by.calibration == "residual" else set())
        assert len(rows) == len(named) * (SIZES.canaries + SIZES.records)
        assert {row.signal for row in rows} == named and np.isfinite([row.value for row in rows]).all()


def test_arms_differ_and_scores_are_those_of_the_span(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, plan = attacked
    canary = load_candidates(run_dir).canaries[7]
    model = HFModel.load(plan.suite.model.base)
    item = encode(canary.records[0].turns, model.tokenizer, 160, secret=canary.secret)
    ids, mask = torch.tensor([item.input_ids], device=model.model.device), np.array(item.secret_mask)

    def logprobs() -> np.ndarray:
        with torch.no_grad():
            logp = torch.log_softmax(model.model(input_ids=ids).logits[0].cpu(), -1)
        return np.array([float(logp[i - 1, item.input_ids[i]]) for i in np.flatnonzero(mask)])

    base, seen = logprobs(), []
    for arm in plan.suite.grid.arms:
        model.add_adapter(arm.name, run_dir.file(f"train/{arm.name}/adapter"))
        with model.active(arm.name):
            tuned = logprobs()
        expected = {
            "loss": {"loss": tuned.mean()},
            "difference": {"calibrated": (tuned - base).mean()},
            "calibrated": {"loss": tuned.sum(), scores.TOKENS: len(tuned), scores.REFERENCE: base.sum()},
        }
        for name, values in expected.items():
            rows = [r for r in scores.read_scores(run_dir, arm.name, name) if r.example == canary.id]
            assert {row.signal: row.value for row in rows} == pytest.approx(values, abs=1e-4)
        seen.append(tuned.mean())
    assert len(set(seen)) == len(seen)


def test_a_units_score_is_the_sum_over_its_records(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, plan = attacked
    unit, records = max(load_candidates(run_dir).records.items(), key=lambda pair: len(pair[1]))
    assert len(records) > 1
    model = HFModel.load(plan.suite.model.base)
    model.add_adapter("sft-eps1", run_dir.file("train/sft-eps1/adapter"))
    items = [encode(record.turns, model.tokenizer, 160) for record in records]
    with model.active("sft-eps1"):
        found = model.token_scores(items)
    means = [s.logprob[np.array(i.answer_mask)].mean() for s, i in zip(found, items, strict=True)]
    row = next(r for r in scores.read_scores(run_dir, "sft-eps1", "loss") if r.example == unit)
    assert row.value == pytest.approx(np.sum(means), abs=1e-4)


def test_extraction_gives_rank_space_exposure_and_match(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, _ = attacked
    rows = scores.read_scores(run_dir, "sft-inf", "extraction")
    by_signal = {s: {r.example: r.value for r in rows if r.signal == s} for s in {r.signal for r in rows}}
    assert set(by_signal) == {"rank", "space", "exposure", "greedy_match", "extrapolated"}
    assert not any(by_signal["extrapolated"].values())
    assert len(by_signal["rank"]) == SIZES.extraction
    for example, place in by_signal["rank"].items():
        assert by_signal["space"][example] == 100 and 1 <= place <= 100
        assert by_signal["exposure"][example] == pytest.approx(np.log2(100 / place))
        assert by_signal["greedy_match"][example] in (0, 1)


def test_what_is_current_is_left_alone_and_what_is_stale_is_made_anew(
    attacked: tuple[RunDir, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, plan = attacked
    files = sorted(run_dir.file("attack").glob("*/*.parquet"))
    before = {file: file.stat().st_mtime_ns for file in files}
    monkeypatch.setattr(attack, "_load", lambda *_: pytest.fail("loaded a model for nothing"))
    attack.run(run_dir, plan, QUIET, "mia")
    monkeypatch.undo()
    run_dir.file(scores.score_file("sft-inf", "loss")).unlink()
    attack.run(run_dir, plan, QUIET, "mia")
    changed = {file for file in files if file.stat().st_mtime_ns != before[file]}
    assert changed == {run_dir.file(scores.score_file("sft-inf", "loss"))}


def test_no_text_and_no_secret_is_in_any_score_file(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, _ = attacked
    candidates = load_candidates(run_dir)
    words = {canary.records[0].turns[0].text for canary in candidates.canaries}
    words |= {turn.text for records in candidates.records.values() for r in records for turn in r.turns}
    for file in run_dir.file("attack").glob("*/*.parquet"):
        content = file.read_bytes()
        assert not any(word.encode() in content for word in words)


def test_faults_are_one_line_and_write_nothing(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    few = plan_of(toy_model_dir, candidates=replace(SIZES, canaries=99))
    run_dir = run_store.open_or_create(few.to_json(), "few", tmp_path)
    prepare.run(run_dir, few, QUIET)
    with pytest.raises(UsageError, match=r"candidates\.canaries.*at least 100.*got 99"):
        attack.run(run_dir, few, QUIET, "mia")
    with pytest.raises(UsageError, match="dpaudit train"):
        attack.run(run_dir, few, QUIET, "extract")
    with pytest.raises(UsageError, match="no such arm"):
        attack.run(run_dir, few, QUIET, "extract", arms=["sft-eps3"])
    with pytest.raises(UsageError, match="attacks/lira"):
        attack.run(run_dir, few, QUIET, "mia", recipes=["lira"])
    short = plan_of(toy_model_dir, model=Model(str(toy_model_dir), max_length=8))
    cut = run_store.open_or_create(short.to_json(), "short", tmp_path)
    prepare.run(cut, short, QUIET)
    fabricate_training(cut, short, short.suite.grid.arms[0], toy_adapter_dir)
    for kind in ("mia", "extract"):
        with pytest.raises(UsageError, match=r"model\.max_length"):
            attack.run(cut, short, QUIET, kind)  # type: ignore[arg-type]
    assert not run_dir.file("attack").exists() and not cut.file("attack").exists()


def test_an_adapter_that_diverged_is_one_line(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    plan = plan_of(toy_model_dir)
    run_dir = run_store.open_or_create(plan.to_json(), "diverged", tmp_path / "runs")
    prepare.run(run_dir, plan, QUIET)
    broken = scaled(toy_adapter_dir, tmp_path / "broken", float("nan"))
    fabricate_training(run_dir, plan, plan.suite.grid.arms[0], broken)
    for kind in ("mia", "extract"):
        with pytest.raises(UsageError, match="learning rate"):
            attack.run(run_dir, plan, QUIET, kind)  # type: ignore[arg-type]
    assert not run_dir.file("attack").exists()


def test_an_arm_of_plain_text_is_scored_on_plain_text(tmp_path: Path, toy_model_dir: Path) -> None:
    from dpaudit.models import tokenizers

    plan = plan_of(toy_model_dir, data=Data(text="builtin:clinic", patients=60, heldout=4))
    run_dir = run_store.open_or_create(plan.to_json(), plan.suite.name, tmp_path)
    prepare.run(run_dir, plan, QUIET)
    candidates, tokenizer = load_candidates(run_dir), tokenizers.load_tokenizer(str(toy_model_dir))
    items = items_of(plan, candidates, "cpt", tokenizer).items
    texts = {r.text for rows in candidates.texts.values() for r in rows}
    texts |= {c.text.text for c in candidates.canaries if c.purpose == "mia"}
    assert {tokenizer.decode(i.encoded.input_ids[:-1]) for i in items} == texts
    for item in items:
        kept = np.array(item.encoded.input_ids)[item.counted]
        assert len(kept) < len(item.encoded.input_ids)
        assert item.kind == "record" or tokenizer.decode(kept).strip() == item.text


Rows = list[dict[str, Any]]
EDITS: dict[str, Callable[[Rows], Rows]] = {
    "a row is lost": lambda rows: rows[1:],
    "a row stands twice": lambda rows: [*rows, rows[0]],
    "two rows change places": lambda rows: [rows[1], rows[0], *rows[2:]],
    "a value is another": lambda rows: [{**rows[0], "value": rows[0]["value"] + 1e-9}, *rows[1:]],
    "a value is missing": lambda rows: [{**rows[0], "value": None}, *rows[1:]],
    "records and canaries change names": lambda rows: [
        {**row, "kind": "record" if row["kind"] == "canary" else "canary"} for row in rows
    ],
    "nobody knows the example": lambda rows: [{**rows[0], "example": "nobody"}, *rows[1:]],
    "nothing is left": lambda rows: rows[:0],
}


@pytest.mark.parametrize("name", ["loss", "extraction"])
@pytest.mark.parametrize("edit", EDITS)
def test_scores_that_were_changed_are_refused(
    edit: str, name: str, attacked: tuple[RunDir, Plan], tmp_path: Path
) -> None:
    """A row fewer among the highest would raise a bound; the file still says what it was made from."""
    run_dir = RunDir(shutil.copytree(attacked[0].path, tmp_path / "run"))
    assert scores.read_scores(run_dir, "sft-inf", name)
    file = run_dir.file(f"attack/sft-inf/{name}.parquet")
    table = pq.read_table(file)
    pq.write_table(pa.Table.from_pylist(EDITS[edit](table.to_pylist()), table.schema), file)
    with pytest.raises(UsageError, match="expected the scores that the attack wrote"):
        scores.read_scores(run_dir, "sft-inf", name)


def test_texts_are_made_and_encoded_once_for_all_arms(
    attacked: tuple[RunDir, Plan], toy_model_dir: Path, toy_adapter_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpaudit.models import encode
    from dpaudit.stages.attack import items, membership
    from dpaudit.stages.attack.scores import ScoringJob

    run_dir, plan = attacked
    model, candidates = HFModel.load(str(toy_model_dir)), load_candidates(run_dir)
    arms = [replace(plan.suite.grid.arms[0], seed=seed) for seed in (0, 1)]
    for arm in arms:
        model.add_adapter(arm.name, toy_adapter_dir)
    encoded: list[int] = []
    encode_all, tokenise = items.encode_all, type(model.tokenizer).__call__
    calls: list[int] = []
    monkeypatch.setattr(
        items, "encode_all", lambda *asked: encoded.append(len(asked[0])) or encode_all(*asked)
    )

    def counting(tokenizer: Any, texts: Any, **settings: Any) -> Any:
        calls.append(1)
        return tokenise(tokenizer, texts, **settings)

    monkeypatch.setattr(type(model.tokenizer), "__call__", counting)
    monkeypatch.setattr(membership, "write_scores", lambda *_: None)
    chosen = [recipe.load(name) for name in ("lowercase", "neighbourhood", "loss")]
    membership.score(run_dir, plan, QUIET, [ScoringJob(arm, chosen) for arm in arms], candidates, model)
    copies = recipe.load("neighbourhood").make_signal().neighbours + 1
    made, tokenised = sum(encoded) // (1 + copies), len(calls)
    assert made == len(items_of(plan, candidates, "sft", model.tokenizer).items)
    batches = (
        -(-count // encode.TOGETHER) for count in encoded[:4]
    )  # canaries, records, lowercase, neighbours
    assert tokenised <= sum(batches)


def test_a_prefix_goes_as_far_as_each_text_has_room(
    attacked: tuple[RunDir, Plan], toy_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record that fills the context takes the prefix from itself alone."""
    from dpaudit.data.corpus import Record
    from dpaudit.stages.attack import items, membership, references

    run_dir, plan = attacked
    model = HFModel.load(str(toy_model_dir))
    made = items.items_of(plan, load_candidates(run_dir), "sft", model.tokenizer).items
    longest = max(made, key=lambda item: len(item.encoded.input_ids))
    short = [item for item in made if len(item.encoded.input_ids) < len(longest.encoded.input_ids) - 30][:5]
    heldout = [Record.from_json(row) for row in run_dir.iterate_lines("corpus/heldout.jsonl")]
    signal: Any = recipe.load("recall").make_signal()

    def prefixed(context: int, some: list[Any]) -> list[float]:
        monkeypatch.setattr(references, "context", lambda _: context)
        own = membership.means(membership.token_scores(model, some, lambda n=1: None))
        arm = plan.suite.grid.arms[0]
        copies = membership.Copies(some, model.tokenizer, plan.suite.model.max_length)
        asked = membership.Asked(run_dir, plan, model, arm, some, copies, heldout, own, lambda n=1: None)
        return [row["prefixed"] for row in membership._prefixed(asked, signal)]

    full = len(longest.encoded.input_ids)
    alone, together = prefixed(full, short), prefixed(full, [*short, longest])
    assert together[:-1] == pytest.approx(alone, abs=1e-5)
    plain = membership.means(membership.token_scores(model, [longest], lambda n=1: None))
    assert together[-1] == pytest.approx(plain[0], abs=1e-5)
    bare = membership.means(membership.token_scores(model, short, lambda n=1: None))
    assert min(abs(a - b) for a, b in zip(alone, bare, strict=True)) > 1e-4


def test_recipes_that_compare_with_held_out_records_want_some(attacked: tuple[RunDir, Plan]) -> None:
    run_dir, plan = attacked
    without = replace(plan, suite=replace(plan.suite, data=replace(plan.suite.data, heldout=0)))
    arm, said = plan.suite.grid.arms[0], StringIO()
    chosen = [recipe.load(name) for name in ("loss", "recall", "combination")]
    chosen = [replace(one, minimum_canaries=100) for one in chosen]
    kept = attack.applicable(run_dir, without, arm, chosen, Progress(console=Console(file=said, width=200)))
    assert [one.name for one in kept] == ["loss"]
    assert "skipped: needs held-out records (data.heldout): recall, combination" in said.getvalue()
    assert len(attack.applicable(run_dir, plan, arm, chosen, QUIET)) == 3
    with pytest.raises(
        UsageError,
        match=r"data\.heldout: expected held-out records for attacks/recall\.yaml, got no held-out records",
    ):
        attack.applicable(run_dir, without, arm, [recipe.load("recall")], QUIET, ["recall"])
