"""Extraction stage by stage on the toy model: large spaces, sampling, personal fields of real records."""

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from reference import logits_of
from test_attack import fabricate_training

from dpaudit import content
from dpaudit.commands import extracted as rows_of
from dpaudit.commands import states
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models.encode import counted_mask, encode
from dpaudit.models.field_spans import FieldTokens, fields_of
from dpaudit.models.hf_model import HFModel
from dpaudit.models.spaces import Spaces, encoded_secret
from dpaudit.page import tables
from dpaudit.signals import extraction, recipe
from dpaudit.stages.attack import attack, complete, scores
from dpaudit.stages.audit import audit, extracted
from dpaudit.stages.audit.extracted import Sides
from dpaudit.stages.prepare import prepare
from dpaudit.stages.prepare.candidates import load_candidates, load_membership
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Candidates, Data, Model, Schedule, Suite, Training
from dpaudit.system.progress import Progress

SHARED = Path(__file__).parents[4] / "shared/data/pii_synthetic_en_dev.jsonl"  # beside the checkout
QUIET = Progress(quiet=True)
PEOPLE = [
    {
        "name": f"Ann Lee {n}",
        "condition": "asthma",
        "phone": f"{200 + n}-555-01{n:02d}",
        "email": f"a{n}@example.com",
    }
    for n in range(40)
]
KINDS = ("phone", "email", "national_id", "record_number", "date_of_birth")
SIZES = Candidates(
    family="record_number",
    canaries=0,
    records=20,
    extraction=8,
    extraction_length=3,
    extraction_repetitions=(1, 2),
)


def rows(people: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A dialogue of each person: the number asked for, and one question that says the e-mail address
    itself.
    """
    made = []
    for n, p in enumerate(people):
        first = f"I am {p['name']}, I have {p['condition']}. What number do you have for me?"
        second = f"My e-mail is {p['email']}. Read it back."
        for question, answer in ((first, f"Your number is {p['phone']}."), (second, f"It is {p['email']}.")):
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            made.append({"id": f"r{len(made)}", "patient_id": f"p{n}", "messages": turns})
    return made


def written(people: list[dict[str, Any]], place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    file = place / "people.jsonl"
    file.write_text("\n".join(map(json.dumps, rows(people))))
    return file


def plan_of(base: Path, source: str, **changes: object) -> Plan:
    schedule = Schedule(16, 4, 0.01)
    made = Suite(
        "extracted",
        Training(schedule, schedule),
        model=Model(str(base), max_length=200),
        data=Data(source=source, patients=30, heldout=0),
        candidates=SIZES,
        grid=Grid((1.0,)),
        attacks=("extract",),
    )
    return Plan(replace(made, **changes), insecure_seed=0)  # type: ignore[arg-type]


def started(plan: Plan, place: Path, adapter: Path) -> RunDir:
    run_dir = run_store.open_or_create(plan.to_json(), plan.suite.name, place / "runs")
    prepare.run(run_dir, plan, QUIET)
    for arm in plan.suite.grid.arms:
        fabricate_training(run_dir, plan, arm, adapter)
    return run_dir


@pytest.fixture(scope="module")
def extracted_run(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, Plan]:
    """All three recipes on people with numbers, where 1,000 secrets are too many to be ranked."""
    place = tmp_path_factory.mktemp("extract")
    (place / "attacks").mkdir()
    small = content.load_yaml(content.shipped("attacks") / "extraction.yaml")
    small |= {"parameters": {"exact_up_to": 500, "samples": 100}}
    (place / "attacks/extraction.yaml").write_text(yaml.safe_dump(small))
    plan = plan_of(toy_model_dir, str(written(PEOPLE, place)))
    run_dir = started(plan, place, toy_adapter_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        attack.run(run_dir, plan, QUIET, "extract")
        audit.run(run_dir, plan, QUIET, "extract")
    return run_dir, plan


def by_signal(run_dir: RunDir, name: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in scores.read_scores(run_dir, "sft-inf", name):
        found.setdefault(row.signal, {})[row.example] = row.value
    return found


def test_an_exposure_that_was_extrapolated_says_so_from_scores_to_table(
    extracted_run: tuple[RunDir, Plan],
) -> None:
    run_dir, plan = extracted_run
    found = by_signal(run_dir, "extraction")
    assert set(found) == {
        "exposure",
        "beyond_samples",
        "capped",
        "samples",
        "space",
        "greedy_match",
        "extrapolated",
    }
    assert set(found["extrapolated"].values()) == {1} and set(found["samples"].values()) == {100}
    assert all(0 <= bits <= math.log2(1000) + 1e-9 for bits in found["exposure"].values())
    told = run_dir.read_json("audit/sft-inf/extraction.json")
    assert told["exposure"]["planted"] == [] and told["exposure"]["extrapolated"] is False
    stretched = told["exposure_extrapolated"]
    assert stretched["extrapolated"] is True and stretched["samples"] == 100
    assert len(stretched["planted"]) == len(stretched["controls"]) == 4
    assert {"beyond_samples_planted", "beyond_samples_controls", "capped_planted"} <= set(stretched)
    row = rows_of.extraction_rows(run_dir, plan)[0]
    assert row["extrapolated"] == 8 and "exposures extrapolated" in tables.as_text({"extraction": [row]})


def test_a_sample_as_large_as_the_space_is_still_a_sample(
    extracted_run: tuple[RunDir, Plan], lm: HFModel
) -> None:
    """999 draws with repetitions and the secret are as many as the 1,000 secrets, and not the same."""
    from dpaudit.stages.attack import rank

    canary = next(c for c in load_candidates(extracted_run[0]).canaries if c.purpose == "extraction")
    assert canary.space == 1000
    others = extraction.other_secrets(canary, 999, random.Random(0))
    space = Spaces(lm.tokenizer, 200).of(canary, others)
    found = {row.signal: row.value for row in rank._secret_scores(canary, space, False, False, lm)}
    assert found["extrapolated"] == 1 and "rank" not in found


def test_figures_stand_by_number_of_repetitions(extracted_run: tuple[RunDir, Plan]) -> None:
    told = extracted_run[0].read_json("audit/sft-inf/extraction.json")
    levels = told["by_repetitions"]
    assert [level["repetitions"] for level in levels] == [1, 2]
    assert sum(level["planted"] for level in levels) == told["planted"] == 4
    assert sum(level["controls"] for level in levels) == told["controls"] == 4


def test_the_probability_of_a_secret_is_the_product_over_its_tokens(
    extracted_run: tuple[RunDir, Plan],
) -> None:
    run_dir, plan = extracted_run
    found = by_signal(run_dir, "discoverable")["sequence_logprob"]
    model = HFModel.load(plan.suite.model.base)
    model.add_adapter("sft-inf", run_dir.file("train/sft-inf/adapter"))
    for canary in load_candidates(run_dir).canaries:
        item = encoded_secret(canary, model.tokenizer, 200)
        with torch.no_grad(), model.active("sft-inf"):
            logits = logits_of(model.model, item.input_ids)
        total = 0.0
        for place in np.flatnonzero(counted_mask(item.secret_mask)):
            best = logits[place - 1].topk(40)
            kept = dict(zip(best.indices.tolist(), torch.log_softmax(best.values, -1).tolist(), strict=True))
            total += kept.get(item.input_ids[place], -math.inf)
        assert found[canary.id] == pytest.approx(total, abs=1e-3)
    told = run_dir.read_json("audit/sft-inf/discoverable.json")
    counts = [rate["planted_found"] for rate in told["rates"]]
    assert [rate["queries"] for rate in told["rates"]] == [1, 100, 10_000, 1_000_000]
    assert counts == sorted(counts) and told["decoding"] == {"temperature": 1.0, "top_k": 40, "top_p": 1.0}
    assert len(told["queries_needed"]["planted"]) + told["never_planted"] == 4


def test_fields_are_counted_by_unit_and_those_in_the_prompt_apart(extracted_run: tuple[RunDir, Plan]) -> None:
    run_dir, _ = extracted_run
    found = by_signal(run_dir, "pii")
    units = set(load_candidates(run_dir).records)
    assert set(found["records"]) == units and set(found["records"].values()) == {2}
    assert found["phone.tried"] == dict.fromkeys(units, 1.0)
    assert found["email.given"] == found["email.untrained"] == dict.fromkeys(units, 1.0)
    assert "email.tried" not in found and all(value < 0 for value in found["phone.logprob"].values())
    told = run_dir.read_json("audit/sft-inf/pii.json")
    coins = load_membership(run_dir)
    members = sum(coins[unit] for unit in units)
    assert told["trained_on"] == "answers" and told["unit"] == "patient"
    assert told["members"]["units_tried"] == told["members"]["fields"] == told["members"]["given"] == members
    assert told["non_members"]["fields"] == 20 - members
    assert [kind["field"] for kind in told["by_kind"] if kind["members"]["fields"]] == ["phone"]


def test_no_text_is_in_scores_audits_or_rows(extracted_run: tuple[RunDir, Plan]) -> None:
    run_dir, plan = extracted_run
    secrets = [str(p[key]) for p in PEOPLE for key in ("name", "phone", "email")]
    secrets += [canary.secret for canary in load_candidates(run_dir).canaries if len(canary.secret) > 3]
    files = [*run_dir.file("attack").rglob("*.parquet"), *run_dir.file("audit").rglob("*.json")]
    told = json.dumps(rows_of.tables(run_dir, plan))
    assert len(files) >= 12
    for secret in secrets:
        assert secret not in told and not any(secret.encode() in file.read_bytes() for file in files)


def test_each_recipe_alone_and_its_table(extracted_run: tuple[RunDir, Plan], tmp_path: Path) -> None:
    run_dir = RunDir(shutil.copytree(extracted_run[0].path, tmp_path / "copy"))
    plan = extracted_run[1]
    shutil.rmtree(run_dir.file("attack"))
    shutil.rmtree(run_dir.file("audit"))
    attack.run(run_dir, plan, QUIET, "extract", ["sft-inf"], ["discoverable"])
    audit.run(run_dir, plan, QUIET, "extract", ["sft-inf"], ["discoverable"])
    assert [file.name for file in run_dir.file("audit/sft-inf").iterdir()] == ["discoverable.json"]
    found = rows_of.tables(run_dir, plan, ["sft-inf"], ["discoverable"])
    assert [row["queries"] for row in found["discoverable"]] == [1, 100, 10_000, 1_000_000]
    assert "1,000,000" in tables.as_text(found) and found["extraction"] == []


def test_without_extraction_canaries_ranks_are_refused_and_fields_are_not(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    plan = plan_of(
        toy_model_dir, str(written(PEOPLE[:20], tmp_path)), candidates=replace(SIZES, extraction=0, records=8)
    )
    recipe.check_minimum(recipe.load_all("extract", ["pii"]), plan.suite.candidates)
    run_dir = started(plan, tmp_path, toy_adapter_dir)
    for name in ("extraction", "discoverable"):
        with pytest.raises(UsageError, match=r"candidates\.extraction.*at least 4.*got 0") as error:
            attack.run(run_dir, plan, QUIET, "extract", recipes=[name])
        assert "\n" not in str(error.value)
    attack.run(run_dir, plan, QUIET, "extract")
    audit.run(run_dir, plan, QUIET, "extract")
    assert [file.name for file in run_dir.file("audit/sft-inf").iterdir()] == ["pii.json"]
    assert states.stage_states(run_dir, plan)["attack"] == "done"


def test_units_without_a_field_give_an_empty_result_and_a_line(
    toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = [{**p, "phone": "on file", "email": "on file"} for p in PEOPLE[:20]]
    plan = plan_of(
        toy_model_dir, str(written(people, tmp_path)), candidates=replace(SIZES, extraction=0, records=8)
    )
    run_dir = started(plan, tmp_path, toy_adapter_dir)
    attack.run(run_dir, plan, Progress(), "extract", ["sft-inf"], ["pii"])
    assert "no sft record that a coin decides on holds a field" in capsys.readouterr().err.replace("\n", " ")
    audit.run(run_dir, plan, QUIET, "extract", ["sft-inf"], ["pii"])
    told = run_dir.read_json("audit/sft-inf/pii.json")
    assert told["members"]["units"] + told["non_members"]["units"] == 8
    assert told["members"]["fields"] == 0 and told["members"]["rate"] is None
    assert (told["members"]["lower"], told["members"]["upper"]) == (0, 1)


# ---- which fields may be tried


@pytest.fixture(scope="module")
def lm(toy_model_dir: Path) -> HFModel:
    return HFModel.load(str(toy_model_dir))


def found_in(lm: HFModel, *turns: tuple[str, str], length: int = 200) -> list[FieldTokens]:
    record = Record("r", tuple(Turn(role, text) for role, text in turns))  # type: ignore[arg-type]
    return fields_of(record, encode(record.turns, lm.tokenizer, length), lm.tokenizer, KINDS)


def test_where_a_field_stands_decides_whether_it_is_tried(lm: HFModel) -> None:
    question = ("user", "My phone is 586-555-0115. And the other?")
    both = found_in(lm, question, ("assistant", "Not 586 555 0115 but 586-555-0199."))
    assert [field.standing for field in both] == ["untrained", "given", "tried"]
    length = len(encode((Turn(*question),), lm.tokenizer, 200).input_ids) + 6  # type: ignore[arg-type]
    cut = found_in(lm, question, ("assistant", "It is 586-555-0199."), length=length)
    assert [field.standing for field in cut] == ["untrained", "cut"]


def test_the_tokens_of_a_field_spell_it(lm: HFModel) -> None:
    answer = "It is 586-555-0199, or a.b@example.com."
    record = Record("r", (Turn("user", "电话？"), Turn("assistant", answer)))
    item = encode(record.turns, lm.tokenizer, 200)
    spelt = [
        lm.tokenizer.decode(np.array(item.input_ids)[field.counted])
        for field in fields_of(record, item, lm.tokenizer, KINDS)
    ]
    assert "586-555-0199" in spelt[0] and "a.b@example.com" in spelt[1]
    assert all(len(text) <= 18 for text in spelt)


def test_plain_text_is_tried_as_a_whole(lm: HFModel) -> None:
    from dpaudit.models.encode import encode_text

    record = Record("r", (), text="Her phone number is 586-555-0199.")
    item = encode_text(record.text or "", lm.tokenizer, 200)
    (field,) = fields_of(record, item, lm.tokenizer, KINDS)
    assert field.standing == "tried"


def test_a_learnt_field_is_completed_and_an_unseen_one_is_not(toy_model_dir: Path) -> None:
    """What teacher forcing calls completed is what greedy generation writes."""
    trained = HFModel.load(str(toy_model_dir))
    people = (
        [json.loads(line) for line in SHARED.read_text().splitlines()[:2]] if SHARED.is_file() else PEOPLE[:2]
    )
    records = [
        Record(str(n), tuple(Turn(t["role"], t["content"]) for t in row["messages"]))
        for n, row in enumerate(rows(people)[::2])
    ]
    items = [encode(record.turns, trained.tokenizer, 200) for record in records]
    read = [
        complete._Read(record.id, item, fields_of(record, item, trained.tokenizer, KINDS))
        for record, item in zip(records, items, strict=True)
    ]
    at = trained.model.device
    learnt, labels = (torch.tensor([ids], device=at) for ids in (items[0].input_ids, items[0].labels))
    optimizer = torch.optim.Adam(trained.model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        trained.model(input_ids=learnt, labels=labels).loss.backward()
        optimizer.step()
    found = {(row.example, row.signal): row.value for row in complete._scores(read, trained)}
    assert found["0", "phone.completed"] == 1 and found["0", "phone.logprob"] > -1
    assert found["1", "phone.completed"] == 0 and found["1", "phone.logprob"] < found["0", "phone.logprob"]
    (answer,) = trained.generate([records[0].turns[:1]], 60)
    assert people[0]["phone"] in answer


# ---- counts


def test_counts_have_two_sided_bounds_and_none_of_k_its_upper_one() -> None:
    planted = {f"a{n}": {"sequence_logprob": -1.0 if n < 3 else -math.inf} for n in range(10)}
    controls = {f"b{n}": {"sequence_logprob": math.log(1e-4)} for n in range(10)}
    how = recipe.load("discoverable").make_signal()
    found = extracted._sampled(Sides(planted, controls), how)
    one, hundred, many, _ = found.rates
    assert (one.planted_found, one.controls_found) == (0, 0)  # exp(-1) is below one half
    assert one.found_upper == one.controls_upper == pytest.approx(1 - 0.025**0.1)
    assert (hundred.planted_found, hundred.controls_found) == (3, 0)
    assert (many.planted_found, many.controls_found) == (3, 10)
    assert found.never_planted == 7 and found.fewest_planted == 2 and found.fewest_controls == 6932


def test_fields_of_a_patient_make_one_patient() -> None:
    units = {
        "p0": {"records": 2.0, "phone.tried": 3.0, "phone.completed": 2.0, "phone.logprob": -6.0},
        "p1": {
            "records": 1.0,
            "email.tried": 1.0,
            "email.completed": 0.0,
            "email.logprob": -9.0,
            "email.given": 2.0,
        },
        "p2": {"records": 4.0},
    }
    whole = extracted._units(units, KINDS)
    assert (whole.units, whole.units_tried, whole.units_out) == (3, 2, 1)
    assert (whole.fields, whole.completed, whole.given) == (4, 2, 2)
    assert whole.rate == 0.5 and whole.mean_logprob == -3.75
    assert extracted._tally(units, ["phone"]).fields == 3
