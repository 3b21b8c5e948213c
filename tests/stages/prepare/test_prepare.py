"""Stage prepare: fair coins kept apart, half the extraction canaries planted, changes noticed, nothing
half-made.
"""

import json
import math
from collections.abc import Callable
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dpaudit.data import lexicon
from dpaudit.errors import UsageError
from dpaudit.pipeline import gate
from dpaudit.stages.prepare import prepare
from dpaudit.stages.prepare.candidates import load_candidates, load_membership, load_training
from dpaudit.stages.prepare.corpus import load_corpus
from dpaudit.stages.prepare.draw import draw
from dpaudit.stages.prepare.lessons import expected_units
from dpaudit.storage import run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)


def make_plan(insecure_seed: int | None = 0, seed: int = 0, **changes: Any) -> Plan:
    small = {
        "data.patients": 60,
        "data.heldout": 5,
        "candidates.canaries": 40,
        "candidates.records": 20,
        "candidates.extraction": 10,
    }
    return Plan(loading.load("demo", {**small, **changes}), seed, insecure_seed)


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., tuple[RunDir, Plan]]:
    def make(**options: Any) -> tuple[RunDir, Plan]:
        plan = make_plan(**options)
        run_dir = run_store.open_or_create(plan.to_json(), "demo", tmp_path / "runs")
        prepare.run(run_dir, plan, QUIET)
        return run_dir, plan

    return make


@pytest.mark.parametrize("shared", [0, 1, 40, 80])
def test_as_many_pairs_as_dialogues_have_coins_however_many_ids_they_share(
    tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]], shared: int
) -> None:
    """One pair more or less moves one coin: a unit that holds both parts counts in both, and others fill
    up.
    """
    rows: dict[str, list[dict[str, str]]] = {
        "dialogues": [{"id": f"r{i}", "prompt": f"Case {i}?", "response": "Rest."} for i in range(80)],
        "pairs": [
            {
                "id": f"{'r' if i < shared else 'q'}{i}",
                "prompt": f"Case {i}?",
                "chosen": "Rest.",
                "rejected": "No.",
            }
            for i in range(80)
        ],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_dir, _ = prepared(
        **{
            "data.source": str(tmp_path / "dialogues.jsonl"),
            "data.preference": str(tmp_path / "pairs.jsonl"),
            "data.heldout": 0,
            "training.unit": "record",
            "candidates.canary_repetitions": 1,
            "candidates.records": 20,
            "grid.dpo": ["sigmoid"],
        }
    )
    found, coins = load_candidates(run_dir), load_membership(run_dir)
    spoken, paired = ({name for name, rows in part.items() if rows} for part in (found.records, found.pairs))
    assert len(paired) == 20 and 20 <= len(spoken) <= 20 + shared and (spoken | paired) <= coins.keys()


def test_attackers_see_every_candidate_and_no_coin(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    seen = load_candidates(run_dir)
    purposes = [c.purpose for c in seen.canaries]
    assert purposes.count("mia") == 40 and purposes.count("extraction") == 10 and len(seen.records) == 20
    public = (
        run_dir.file("corpus/candidates.jsonl").read_text() + run_dir.file("corpus/manifest.json").read_text()
    )
    assert "included" not in public and "member" not in public
    assert run_dir.file("secret").stat().st_mode & 0o777 == 0o700


def test_training_gets_the_certain_and_the_included_alone(
    prepared: Callable[..., tuple[RunDir, Plan]],
) -> None:
    run_dir, _ = prepared()
    coins, kept = load_membership(run_dir), load_training(run_dir, "sft")
    patients = {record.patient for record in kept}
    assert all((name in patients) == included for name, included in coins.items())
    certain = sum(row["kind"] == "certain" for row in run_dir.read_lines("corpus/candidates.jsonl"))
    assert len(patients) == certain + sum(coins.values())
    pairs = list(load_training(run_dir, "dpo"))
    assert {p.patient for p in pairs} == patients and all(p.is_pair for p in pairs)


def test_half_of_the_extraction_canaries_is_planted(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    coins = load_membership(run_dir)
    assert sum(included for name, included in coins.items() if name.startswith("extraction")) == 5


def test_coins_are_fair_and_independent() -> None:
    """500 coins a seed over 20 seeds: count and lag-one agreement within 4 standard errors (false alarm
    1e-4).
    """
    heads = agreements = total = 0
    for seed in range(20):
        plan = make_plan(
            insecure_seed=seed,
            **{"candidates.records": 0, "candidates.extraction": 0, "candidates.canaries": 500},
        )
        coins = list(draw(plan, load_corpus(plan))[1].values())
        heads, total = heads + sum(coins), total + len(coins)
        agreements += sum(a == b for a, b in pairwise(coins))
    error = 4 * math.sqrt(total) / 2
    assert abs(heads - total / 2) < error and abs(agreements - (total - 20) / 2) < error


def test_coins_come_from_the_system_unless_a_seed_is_insecure() -> None:
    draws = [draw(make_plan(insecure_seed=s), load_corpus(make_plan()))[1] for s in (None, None, 7, 7)]
    assert draws[0] != draws[1] and draws[2] == draws[3]


def test_the_population_does_not_tell_the_coins(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    units = {prepared(insecure_seed=s)[0].read_json("corpus/manifest.json")["units"] for s in range(3)}
    assert len(units) == 1


@pytest.mark.parametrize(("unit", "copies"), [("record", 4), ("patient", 1)])
def test_each_copy_of_a_secret_is_a_record_of_its_own(
    unit: str, copies: int, prepared: Callable[..., tuple[RunDir, Plan]]
) -> None:
    """The page's number of units is that from which the ledger's rate is made."""
    copied = {"candidates.canary_repetitions": 1, "candidates.extraction_repetitions": 4}
    fine_tuned = {"data.preference": None, "grid.chain": False, "grid.dpo": [], "attacks": ["mia"]}
    run_dir, plan = prepared(**copied, **fine_tuned, **{"training.unit": unit})
    told, secrets = run_dir.read_json("corpus/manifest.json"), plan.suite.candidates.extraction
    counts = told["counts"]
    expected = counts["certain"] + (counts["record"] + counts["mia"] + secrets * copies) / 2
    assert secrets and told["units"] == int(expected)
    assert told["units"] == expected_units(run_dir, "sft", unit)


def test_a_second_call_changes_nothing(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, plan = prepared(insecure_seed=None)
    before = run_dir.file("secret/coins.json").read_bytes()
    prepare.run(run_dir, plan, QUIET)
    assert run_dir.file("secret/coins.json").read_bytes() == before


@pytest.mark.parametrize("name", ["corpus/candidates.jsonl", "secret/coins.json"])
def test_a_changed_file_is_refused_by_name(prepared: Callable[..., tuple[RunDir, Plan]], name: str) -> None:
    run_dir, plan = prepared()
    path = run_dir.file(name)
    path.write_text(path.read_text() + " ")
    with pytest.raises(UsageError, match=name):
        prepare.run(run_dir, plan, QUIET)


def dialogues(path: Path, count: int, **extra: str) -> Path:
    rows = (
        {"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": f"a{i}"}], **extra}
        for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_split_by_unit_and_watched(
    tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]]
) -> None:
    data = dialogues(tmp_path / "data.jsonl", 100)
    options = {
        "data.source": str(data),
        "data.preference": None,
        "training.unit": "record",
        "grid.dpo": [],
        "candidates.canary_repetitions": 1,
    }
    run_dir, plan = prepared(**options)
    held = {row["id"] for row in run_dir.read_lines("corpus/heldout.jsonl")}
    assert len(held) == 5 and not held & {r.id for r in load_training(run_dir, "sft")}
    dialogues(data, 101)
    with pytest.raises(UsageError, match=r"data\.jsonl"):
        prepare.run(run_dir, plan, QUIET)


def test_unit_patient_needs_patients_in_the_data(tmp_path: Path) -> None:
    data = dialogues(tmp_path / "data.jsonl", 50)
    plan = make_plan(**{"data.source": str(data), "data.preference": None, "grid.dpo": []})
    with pytest.raises(UsageError, match="patient_id"):
        load_corpus(plan)


# ---- files: rows, plain text, caps, chains, and nothing left over

FILE = {
    "training.unit": "record",
    "candidates.canary_repetitions": 1,
    "data.preference": None,
    "grid.dpo": [],
}


def test_rows_come_before_the_split(tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    data = dialogues(tmp_path / "data.jsonl", 100)
    run_dir, _ = prepared(**FILE, **{"data.source": str(data), "data.rows": "20:80", "data.limit": 50})
    records = [row for row in run_dir.iterate_lines("corpus/candidates.jsonl") if row["kind"] != "canary"]
    seen = {row["id"] for row in (*records, *run_dir.read_lines("corpus/heldout.jsonl"))}
    assert seen == {f"r{line}" for line in range(21, 71)}


@pytest.mark.parametrize("text", ["builtin:clinic", None])
def test_plain_text_stands_beside_the_dialogues(
    prepared: Callable[..., tuple[RunDir, Plan]], text: str | None
) -> None:
    run_dir, _ = prepared(**{"data.text": text})
    kept = {method: list(load_training(run_dir, method)) for method in ("sft", "cpt")}
    count = run_dir.read_json("corpus/manifest.json")["counts"]["texts"]
    rows = [row for row in run_dir.iterate_lines("corpus/candidates.jsonl") if row["kind"] != "canary"]
    if text is None:
        assert count == 0 and not any("texts" in row for row in rows)
        return
    assert count == sum(len(row["texts"]) for row in rows) > 0
    assert {r.patient for r in kept["cpt"]} == {r.patient for r in kept["sft"]}
    written = {(r.id, " ".join(t.text for t in r.turns)) for r in kept["sft"] if not is_canary(r.id)}
    assert {(r.id, r.text) for r in kept["cpt"] if not is_canary(r.id)} == written
    coins = load_membership(run_dir)
    planted = sum(included for name, included in coins.items() if is_canary(name))
    assert sum(is_canary(r.id) for r in kept["cpt"]) == planted  # once each, however often it is repeated
    assert sum(is_canary(r.id) for r in kept["sft"]) > planted


def is_canary(name: str) -> bool:
    return name.startswith(("mia", "extraction"))


def test_a_file_of_plain_text(tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"note {i}", "patient_id": f"n{i % 9}"}) + "\n" for i in range(30))
    )
    run_dir, plan = prepared(**{"data.text": str(texts)})
    notes = [r for r in load_training(run_dir, "cpt") if not is_canary(r.id)]
    assert [r.text for r in notes] == [
        f"note {i}" for k in range(9) for i in range(k, 30, 9)
    ]  # a patient's in a row
    texts.write_text(texts.read_text().replace("note 3", "note X"))
    with pytest.raises(UsageError, match=r"texts\.jsonl: expected the file that this run started with"):
        prepare.run(run_dir, plan, QUIET)


def test_a_patients_records_are_capped_and_counted(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    free, _ = prepared()
    capped, _ = prepared(**{"training.records_per_patient": 2, "candidates.extraction_repetitions": 2})
    sizes = {
        run_dir.name: [
            len(row["records"])
            for row in run_dir.iterate_lines("corpus/candidates.jsonl")
            if row["kind"] != "canary"
        ]
        for run_dir in (free, capped)
    }
    assert max(sizes[free.name]) > 2 == max(sizes[capped.name])
    lost = sum(max(size - 2, 0) for size in sizes[free.name])
    counts = capped.read_json("corpus/manifest.json")["counts"]
    assert counts["over_cap"] == lost > 0 and counts["records"] == sum(sizes[capped.name])
    assert free.read_json("corpus/manifest.json")["counts"]["over_cap"] == 0


def test_what_the_cap_left_out_is_told(tmp_path: Path) -> None:
    plan = make_plan(**{"training.records_per_patient": 2})
    run_dir = run_store.open_or_create(plan.to_json(), "demo", tmp_path)
    stream = StringIO()
    prepare.run(run_dir, plan, Progress(console=Console(file=stream, width=80)))
    lost = run_dir.read_json("corpus/manifest.json")["counts"]["over_cap"]
    assert f"dropped by training.records_per_patient: {lost} records" in stream.getvalue()


def told_of(folder: Path, **changes: Any) -> str:
    """What stage prepare says of 60 dialogues of 15 patients, half of them written as floats, and as many
    pairs.
    """
    people = [i % 15 if i % 2 else float(i % 15) for i in range(60)]
    rows = {
        "d": [
            {"prompt": f"Case {i}?", "response": "Rest.", "patient_id": who, "ward": "a"}
            for i, who in enumerate(people)
        ],
        "p": [
            {"prompt": f"Case {i}?", "chosen": "Rest.", "rejected": "No.", "patient_id": who}
            for i, who in enumerate(people)
        ],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = make_plan(
        **{
            "data.source": str(folder / "d.jsonl"),
            "data.preference": str(folder / "p.jsonl"),
            "grid.dpo": ["sigmoid"],
            "data.heldout": 0,
            "candidates.records": 5,
            "candidates.canary_repetitions": 1,
            **changes,
        }
    )
    run_dir = run_store.open_or_create(plan.to_json(), "demo", folder)
    stream = StringIO()
    prepare.run(run_dir, plan, Progress(console=Console(file=stream, width=80)))
    counts = run_dir.read_json("corpus/manifest.json")["counts"]
    return f"{counts['certain'] + counts['record']} units\n{stream.getvalue()}"


@pytest.mark.parametrize(("canaries", "is_told"), [(40, True), (10, False)])
def test_many_canaries_are_told(tmp_path: Path, canaries: int, is_told: bool) -> None:
    """Half of 40 beside 60 dialogues is above a fifth, half of 10 is not."""
    told = told_of(
        tmp_path,
        **{"candidates.canaries": canaries, "candidates.extraction": 0, "training.unit": "record"},
    )
    assert ("of the units of sft are canaries" in told) == is_told


def test_a_unit_below_the_patient_is_told_where_patients_are_named(tmp_path: Path) -> None:
    told = told_of(tmp_path, **{"training.unit": "record"})
    assert (
        "the data name 15 patients in 120 records: unit record hides one record, --unit patient hides all "
        "records of a person" in told
    )
    assert "d.jsonl: columns that are not used: ward" in told and told.startswith("120 units")


def test_a_person_written_as_a_whole_number_and_as_a_float_is_one_unit(tmp_path: Path) -> None:
    told = told_of(tmp_path, **{"training.unit": "patient"})
    assert told.startswith("15 units") and "hides" not in told


@pytest.mark.parametrize(
    ("key", "row", "wanted"),
    [
        ("data.source", {"text": "x"}, "expected dialogues to fine-tune on, got plain text"),
        (
            "data.source",
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "expected dialogues to fine-tune on, got preference pairs",
        ),
        ("data.text", {"prompt": "q", "completion": "a"}, "expected plain text in every row, got dialogues"),
        (
            "data.preference",
            {"text": "x"},
            "expected prompt, chosen and rejected in every row, got plain text",
        ),
    ],
)
def test_data_of_another_kind_is_refused(tmp_path: Path, key: str, row: dict[str, str], wanted: str) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    with pytest.raises(UsageError, match=wanted):
        load_corpus(make_plan(**{key: str(tmp_path / "d.jsonl")}))


@pytest.mark.parametrize(
    ("key", "remedy"), [("data.preference", "data.preference=FILE"), ("data.text", "--text FILE")]
)
def test_the_clinic_beside_somebody_elses_data_is_refused(tmp_path: Path, key: str, remedy: str) -> None:
    data = dialogues(tmp_path / "data.jsonl", 60)
    with pytest.raises(
        UsageError, match=f"{key}: expected a file beside a data file, got builtin:clinic; .*{remedy}"
    ):
        load_corpus(make_plan(**(FILE | {"data.source": str(data), key: "builtin:clinic"})))


def test_a_dataset_folder_is_read_and_watched(
    tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]]
) -> None:
    (tmp_path / "set").mkdir()
    dialogues(tmp_path / "set" / "train.jsonl", 100)
    run_dir, plan = prepared(**FILE, **{"data.source": str(tmp_path / "set")})
    assert run_dir.read_json("corpus/manifest.json")["counts"]["records"] == 95
    prepare.run(run_dir, plan, QUIET)
    dialogues(tmp_path / "set" / "train.jsonl", 101)
    with pytest.raises(UsageError, match="expected the file that this run started with"):
        prepare.run(run_dir, plan, QUIET)


def test_no_work_file_stays(tmp_path: Path, prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    assert sorted(path.name for path in run_dir.path.iterdir()) == [
        "corpus",
        "custody",
        "plan.json",
        "secret",
    ]
    with pytest.raises(UsageError, match="at most half"):
        prepared(**{"candidates.records": 60})
    left = [path for path in (tmp_path / "runs").rglob("*") if path.name.endswith(".tmp")]
    assert left == []


def test_an_attacker_reads_no_certain_row(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared(**{"data.text": "builtin:clinic"})
    seen = load_candidates(run_dir)
    flipped = {
        row["id"] for row in run_dir.iterate_lines("corpus/candidates.jsonl") if row["kind"] == "record"
    }
    assert seen.records.keys() == seen.pairs.keys() == seen.texts.keys() == flipped
    assert all(r.text for texts in seen.texts.values() for r in texts)


def test_pairs_with_planted_faults_depend_on_their_own_record_alone(tmp_path: Path) -> None:
    """One other record in the file changes no pair: else a pair would tell of somebody else's record."""
    answers = [
        "Take 500 mg twice a day.",
        "You should not drive.",
        "Drink water and sleep well tonight, then call.",
        "Ok",
    ]
    rows = [
        {
            "conversations": [{"from": "human", "value": f"Case {i}?"}, {"from": "gpt", "value": text}],
            "id": f"r{i}",
            "patient_id": f"p{i % 2}",
        }
        for i, text in enumerate(answers)
    ]
    found = []
    for name, kept in (("all", rows), ("less", rows[1:])):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        plan = make_plan(
            **{
                "data.source": str(file),
                "data.preference": "faults",
                "data.heldout": 0,
                "training.unit": "patient",
                "candidates.records": 0,
            }
        )
        corpus = load_corpus(plan)
        found.append({pair["id"]: pair for _, unit in corpus.units() for pair in unit["pairs"]})
    assert {"r0", "r1", "r2"} <= found[0].keys()
    assert found[1] == {name: pair for name, pair in found[0].items() if name != "r0"}
    first = found[0]["r0"]
    assert (first["chosen"], first["rejected"], first["patient"]) == (
        answers[0],
        "Take 5000 mg twice a day.",
        "p0",
    )


# ---- families, levels, shares, the twin


def small(toy_model_dir: Path, family: str, **changes: Any) -> dict[str, Any]:
    return {
        "candidates.family": family,
        "candidates.extraction": 0,
        "attacks": ["mia"],
        "model.base": str(toy_model_dir),
        "candidates.canary_repetitions": 1,
        "candidates.canary_length": 3,
        "grid.dpo": [],
        "data.preference": None,
        **changes,
    }


@pytest.mark.parametrize(
    "family", ["invented", "random_token", "rare_unigram", "rare_bigram", "synthetic", "phone"]
)
def test_every_family_is_prepared(
    toy_model_dir: Path, prepared: Callable[..., tuple[RunDir, Plan]], family: str
) -> None:
    """Members and controls come from one draw: the coins move and no canary does."""
    runs = [prepared(insecure_seed=coins, **small(toy_model_dir, family)) for coins in (0, 1)]
    first, second = (load_candidates(run_dir).canaries for run_dir, _ in runs)
    coins = [load_membership(run_dir) for run_dir, _ in runs]
    assert first == second and coins[0] != coins[1] and len(first) == 40
    assert all(c.secret and c.secret != c.other for c in first)
    words = family in ("rare_unigram", "rare_bigram")
    assert ("epsilon does not cover the words" in str(runs[0][1].caveat)) == words


def test_words_of_the_corpus_are_in_it(
    toy_model_dir: Path, prepared: Callable[..., tuple[RunDir, Plan]]
) -> None:
    run_dir, _ = prepared(**small(toy_model_dir, "rare_unigram"))
    rows = [
        row
        for row in run_dir.iterate_lines("corpus/candidates.jsonl")
        if row["kind"] in ("certain", "record")
    ]
    texts = " ".join(turn["text"] for row in rows for record in row["records"] for turn in record["turns"])
    assert all(word in texts for c in load_candidates(run_dir).canaries for word in c.secret.split())


def test_samples_that_never_differ_are_refused_without_showing_one(toy_model_dir: Path) -> None:
    plan = make_plan(
        **small(
            toy_model_dir,
            "synthetic",
            **{"candidates.temperature": 1e-4, "candidates.canaries": 20, "candidates.canary_length": 2},
        )
    )
    with pytest.raises(UsageError, match=r"candidates\.temperature: expected samples .* raise it") as refused:
        draw(plan, load_corpus(plan))
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("levels", "planted"), [([1, 4, 16], {1: 6, 4: 6, 16: 6}), ([2, 5], {2: 9, 5: 9}), (3, {3: 18})]
)
def test_half_of_every_level_is_planted(levels: Any, planted: dict[int, int]) -> None:
    plan = make_plan(**{"candidates.extraction": 36, "candidates.extraction_repetitions": levels})
    rows, coins, _ = draw(plan, load_corpus(plan))
    found = [row for row in rows if row["kind"] == "canary" and row["purpose"] == "extraction"]
    counted = {
        copies: sum(coins[row["id"]] for row in found if row["repetitions"] == copies) for copies in planted
    }
    assert counted == planted and len(found) == 2 * sum(planted.values())
    assert all(len(row["records"]) == row["repetitions"] for row in found)


def test_a_list_of_copies_stays_below_a_patients_records() -> None:
    changed = {
        "candidates.extraction": 36,
        "candidates.extraction_repetitions": [1, 16],
        "training.records_per_patient": 8,
    }
    with pytest.raises(
        UsageError, match=r"candidates\.extraction_repetitions: expected at most .* = 8, got 16"
    ):
        gate.check(make_plan(**changed))


def test_the_share_of_canaries_is_told_and_tells_no_coin(
    prepared: Callable[..., tuple[RunDir, Plan]],
) -> None:
    runs = [prepared(insecure_seed=s)[0] for s in range(3)]
    run_dir, told = runs[0], [one.read_json("corpus/manifest.json") for one in runs]
    assert told[0]["canary_share"] == told[1]["canary_share"] == told[2]["canary_share"]
    counts, share = told[0]["counts"], told[0]["canary_share"]
    canaries = (counts["mia"] + counts["extraction"]) / 2
    assert share["sft"]["units"] == pytest.approx(
        canaries / (canaries + counts["certain"] + counts["record"] / 2)
    )
    totals = {True: 0.0, False: 0.0}  # bytes, of canaries and of others
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        texts = [turn["text"] for record in row["records"] for turn in record["turns"]]
        totals[row["kind"] == "canary"] += len("".join(texts).encode()) / (
            1 if row["kind"] == "certain" else 2
        )
    assert share["sft"]["bytes"] == pytest.approx(totals[True] / sum(totals.values()))
    assert share.keys() == {"sft", "dpo"}


def test_a_twin_learns_from_everything_but_canaries(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    whole, twin = (list(load_training(run_dir, "sft", twin=flag)) for flag in (False, True))
    assert twin == [record for record in whole if not is_canary(record.id)] != whole


def test_chosen_and_rejected_come_from_one_generator(prepared: Callable[..., tuple[RunDir, Plan]]) -> None:
    run_dir, _ = prepared()
    pairs = [r for r in load_training(run_dir, "dpo") if is_canary(r.id)]
    assert pairs and all(p.rejected and p.chosen != p.rejected for p in pairs)
    words = {word for p in pairs for text in (p.chosen, p.rejected) for word in str(text).split()}
    assert words <= set(lexicon.PHRASE_WORDS)
