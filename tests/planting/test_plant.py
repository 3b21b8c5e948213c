"""Planted files look like the data they came from, their keys find the canaries again, and what cannot be
planted is refused.
"""

import json
import os
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.data.reading import read_records
from dpaudit.errors import PartialError, UsageError
from dpaudit.page import tables
from dpaudit.planting import audit_key, plant, reach
from dpaudit.signals import recipe

ROWS = 60


def sharegpt(i: int) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": f"Does pill {i} help?"},
        {"from": "gpt", "value": f"Take {i} of them."},
    ]
    return {"conversations": turns, "name_key": f"qa_{1000 + 7 * i}", "source": f"ward{i % 3}"}


def messages(i: int) -> dict[str, Any]:
    turns = [
        {"role": "system", "content": "You are a nurse."},
        {"role": "user", "content": f"Does pill {i} help?"},
        {"role": "assistant", "content": f"Take {i} of them."},
    ]
    return {"id": i, "messages": turns}


def alpaca(i: int) -> dict[str, Any]:
    return {"instruction": "Answer as a nurse.", "input": f"Does pill {i} help?", "output": f"Take {i}."}


def completion(i: int) -> dict[str, Any]:
    return {"prompt": f"Does pill {i} help?", "completion": f"Take {i} of them", "weight": 0.5 + i / 7}


def pair(i: int) -> dict[str, Any]:
    return {"prompt": f"Does pill {i} help?", "chosen": f"Take {i}.", "rejected": f"Take {i + 1}."}


def listed_pair(i: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Does pill {i} help?"}
    answers = ({"role": "assistant", "content": f"Take {n}."} for n in (i, i + 1))
    chosen, rejected = ([asked, answer] for answer in answers)
    return {"chosen": chosen, "rejected": rejected, "id": f"{i * 7919 + 5:08x}-{i:04x}"}


def of_patient(i: int) -> dict[str, Any]:
    return {"patient_id": f"P{100 + i // 2}", **sharegpt(i)}


def pair_of_patient(i: int) -> dict[str, Any]:
    return {"patient_id": f"P{100 + i // 2}", **pair(i)}


def plain(i: int) -> dict[str, Any]:
    return {"text": f"Pill {i} is taken at noon."}


def with_system(i: int) -> dict[str, Any]:
    return {**sharegpt(i), "system": "You are a nurse."}


def in_parts(i: int) -> dict[str, Any]:
    asked, told = (
        [{"type": "text", "text": text}] for text in (f"Does pill {i} help?", f"Take {i} of them.")
    )
    return {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": told},
        ]
    }


def both_spellings(i: int) -> dict[str, Any]:
    """As a Parquet table of ShareGPT and messages together is written as JSON."""
    turns = sharegpt(i)["conversations"]
    return {
        "messages": [{"from": t["from"], "value": None, "role": None, "content": t["value"]} for t in turns]
    }


def instructed_pair(i: int) -> dict[str, Any]:
    return {
        "instruction": "Answer as a nurse.",
        "input": f"Does pill {i} help?",
        "chosen": f"Take {i}.",
        "rejected": f"Take {i + 1}.",
    }


def asked_pair(i: int) -> dict[str, Any]:
    return {
        "system": "You are a nurse.",
        "question": f"Does pill {i} help?",
        "chosen": f"Take {i}.",
        "rejected": f"Take {i + 1}.",
    }


def dolly(i: int) -> dict[str, Any]:
    return {
        "instruction": f"Does pill {i} help?",
        "context": f"Pill {i} it is.",
        "response": f"Take {i} of them.",
    }


def told_before(i: int) -> dict[str, Any]:
    history = [{"role": "user", "content": f"pill {i}"}, {"role": "assistant", "content": f"Pill {i}?"}]
    return {"prompt": f"Does pill {i} help?", "completion": f"Take {i}.", "history": history}


SHAPES = {
    "with_system": (with_system, "record"),
    "in_parts": (in_parts, "record"),
    "both_spellings": (both_spellings, "record"),
    "instructed_pair": (instructed_pair, "pair"),
    "asked_pair": (asked_pair, "pair"),
    "dolly": (dolly, "record"),
    "told_before": (told_before, "record"),
    "sharegpt": (sharegpt, "record"),
    "messages": (messages, "record"),
    "alpaca": (alpaca, "record"),
    "completion": (completion, "record"),
    "pair": (pair, "pair"),
    "listed_pair": (listed_pair, "pair"),
    "patient": (of_patient, "patient"),
    "patients_pair": (pair_of_patient, "patient"),
    "text": (plain, "record"),
}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def planted(
    folder: Path, shape: str = "sharegpt", canaries: int = 100
) -> tuple[Path, Path, audit_key.AuditKey]:
    make, unit = SHAPES[shape]
    source = written(folder / "train.jsonl", [make(i) for i in range(ROWS)])
    out, key = folder / "planted.jsonl", folder / "key.json"
    plant.plant(source, out, key, canaries, unit)
    return out, key, audit_key.load(key)


def skeleton(value: Any) -> Any:
    """The structure of a row: keys in order, kinds of values, spelling of roles."""
    if isinstance(value, dict):
        return [(k, v if k in ("from", "role") else skeleton(v)) for k, v in value.items()]
    return [skeleton(v) for v in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("shape", SHAPES)
def test_planted_rows_have_the_structure_of_the_others(shape: str, tmp_path: Path) -> None:
    out, _, key = planted(tmp_path, shape)
    secrets = [c.secret for c in key.canaries]
    lines = out.read_text().splitlines()
    new = [line for line in lines if any(secret in line for secret in secrets)]
    old = [line for line in lines if line not in new]
    assert len(new) == sum(key.coins) and len(old) == ROWS
    assert {str(skeleton(json.loads(line))) for line in new} <= {
        str(skeleton(json.loads(line))) for line in old
    }
    for line in new:  # each exactly once, and nothing of any row's own text
        assert not re.search(r"pill \d|take \d", line.lower())
    for canary, coin in zip(key.canaries, key.coins, strict=True):
        assert sum(canary.secret in line for line in lines) == coin


@pytest.mark.parametrize("shape", SHAPES)
def test_the_reader_reads_a_planted_row_as_the_key_says(shape: str, tmp_path: Path) -> None:
    out, _, key = planted(tmp_path, shape)
    records = [record for _, record in read_records(str(out))]
    found = {(r.turns, r.chosen, r.rejected, r.text) for r in records}
    for canary, coin in zip(key.canaries, key.coins, strict=True):
        r = canary.record
        assert ((r.turns, r.chosen, r.rejected, r.text) in found) == coin
        assert (r.chosen or r.text or r.turns[-1].text).find(canary.secret) >= 0
        assert (canary.rejected is not None) == r.is_pair
        assert canary.rejected is None or canary.rejected in (r.rejected or "")
    if key.unit == "patient":
        people = [r.patient for r in records if any(c.secret in f"{r.turns}{r.chosen}" for c in key.canaries)]
        assert len(set(people)) == len(people) == sum(key.coins)
        assert set(people).isdisjoint({f"P{100 + i // 2}" for i in range(ROWS)})


def test_ids_are_in_the_style_of_the_data_and_new(tmp_path: Path) -> None:
    out, _, _ = planted(tmp_path)
    ids = [json.loads(line)["name_key"] for line in out.read_text().splitlines()]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("qa_") and len(name) == 7 for name in ids)


def test_a_column_of_row_numbers_counts_on(tmp_path: Path) -> None:
    out, _, key = planted(tmp_path, "messages")
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert ids == list(range(ROWS + sum(key.coins)))


def test_the_other_rows_keep_their_bytes_and_order(tmp_path: Path) -> None:
    out, _, _ = planted(tmp_path)
    source = (tmp_path / "train.jsonl").read_text().splitlines()
    assert [line for line in out.read_text().splitlines() if line in source] == source


def test_coins_places_and_secrets_are_drawn_anew(tmp_path: Path) -> None:
    made = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        made.append(planted(folder, canaries=1000)[2])
    assert made[0].coins != made[1].coins
    assert {c.secret for c in made[0].canaries}.isdisjoint({c.secret for c in made[1].canaries})
    assert binomtest(sum(made[0].coins), 1000).pvalue > 1e-6
    prompts = [c.record.turns[0].text for c in made[0].canaries]
    assert len(set(prompts)) == 1000


def test_the_key_is_its_owners_alone_and_the_data_hold_no_coin(tmp_path: Path) -> None:
    out, key, _ = planted(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "coin" not in out.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key.json", "planted.jsonl", "train.jsonl"]


def test_the_next_line_has_all_that_verify_checks(tmp_path: Path) -> None:
    """With the data a key of another planting is refused; without, it ends in "not refuted"."""
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"text": f"A row {n}."}) + "\n" for n in range(300))
    )
    told = plant.plant(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", tmp_path / "key.json", 100)
    assert f"--key {tmp_path / 'key.json'} --data {tmp_path / 'out.jsonl'} --claim" in told["next"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    out, key, _ = planted(tmp_path)
    before = out.read_bytes(), key.read_bytes()
    for target, other in ((out, tmp_path / "new.json"), (tmp_path / "new.jsonl", key)):
        with pytest.raises(UsageError, match="not there yet"):
            plant.plant(tmp_path / "train.jsonl", *((target, other)))
    assert (out.read_bytes(), key.read_bytes()) == before
    assert not (tmp_path / "new.json").exists() and not (tmp_path / "new.jsonl").exists()


def test_nothing_is_left_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "train.jsonl", [sharegpt(i) for i in range(ROWS)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_key, "write", full)
    with pytest.raises(
        PartialError, match=f"{tmp_path}: expected room for what is written there, got a full disk"
    ):
        plant.plant(source, tmp_path / "out.jsonl", tmp_path / "key.json", 100)
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", [sharegpt(i) for i in range(ROWS)])
    words = ["plant", "train.jsonl", "--out", "o.jsonl", "--key", "k.json"]
    done = subprocess.run(
        [sys.executable, "-m", "dpaudit", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert (
        done.stderr
        == f"planting ...\ndpaudit: {tmp_path}: expected room for what is written there, got a limit on "
        "the size of files; make room and type the same command again\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]


def refusal(tmp_path: Path, rows: list[dict[str, Any]], unit: str = "record", canaries: int = 100) -> str:
    source = written(tmp_path / "train.jsonl", rows)
    with pytest.raises(UsageError) as caught:
        plant.plant(source, tmp_path / "o.jsonl", tmp_path / "k.json", canaries, unit)
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]
    assert "pill" not in str(caught.value).lower() and "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals(tmp_path: Path) -> None:
    rows = [sharegpt(i) for i in range(ROWS)]
    assert "100 to" in refusal(tmp_path, rows, canaries=99)
    assert "one of record" in refusal(tmp_path, rows, unit="label")
    assert (
        "expected preference pairs (chosen and rejected in every row) for the unit pair, got conversations"
        in (told := refusal(tmp_path, rows, unit="pair"))
    )
    assert told.endswith("; --unit record, or --unit patient")
    assert refusal(tmp_path, [pair(i) for i in range(ROWS)]).endswith(
        " under --unit record; --unit pair for preference pairs, or --unit patient"
    )
    assert "patient_id" in refusal(tmp_path, rows, unit="patient")
    noted = [row | {"note": f"Pill {i} was late"} for i, row in enumerate(rows)]
    assert "note" in refusal(tmp_path, noted)
    choices = {"question": "Which pill?", "choices": ["a", "b"], "answer": 1}
    assert "multiple choice" in refusal(tmp_path, [choices] * ROWS)


def test_a_column_of_a_patients_own_facts_is_no_label(tmp_path: Path) -> None:
    rows = [sharegpt(i) | {"patient_id": f"P{i // 10}", "meta": {"name": f"n{i // 10}"}} for i in range(ROWS)]
    assert "meta" in refusal(tmp_path, rows)


def test_the_command_plants(tmp_path: Path) -> None:
    source = written(tmp_path / "train.jsonl", [sharegpt(i) for i in range(ROWS)])
    words = ["plant", str(source), "--out", str(tmp_path / "o.jsonl"), "--key", str(tmp_path / "k.json")]
    done = CliRunner().invoke(app, [*words, "--canaries", "500", "--json"])
    told = json.loads(done.stdout)
    assert told["guesses"] == 250 and 4.39 < told["epsilon_ceiling"] < 4.41
    assert not {"coins", "members", "secret"} & set(told)
    assert told["rows_read"] == ROWS
    kept = audit_key.load(tmp_path / "k.json").visibility
    assert kept is not None and told["visibility_auc"] == kept.auc > 0.99 and kept.real == ROWS
    assert told["rows_written"] == (tmp_path / "o.jsonl").read_text().count("\n")
    shown = tables.as_text(told).splitlines()
    assert "epsilon ceiling: 4.404" in shown and "at delta: 1e−5" in shown
    needed = "195 of 250 to refute epsilon 1, 244 of 250 to refute epsilon 3, impossible for epsilon 8"
    assert f"right guesses needed: {needed} (a claim at delta 1e-05, tested alone at 5%)" in shown


def test_the_help_tells_how_many_canaries_there_may_be() -> None:
    least, most = recipe.load(plant.PRIMARY).minimum_canaries, reach.CANARIES_MOST
    assert f"{least} to {most:,}" in CliRunner().invoke(app, ["plant", "--help"]).stdout


# ---- what a canary's row must not have of another's


def both_answers(i: int) -> dict[str, Any]:
    return {"prompt": f"Does pill {i} help?", "completion": f"Take {i}.", "response": f"Take {i}."}


def both_lists(i: int) -> dict[str, Any]:
    turns = sharegpt(i)["conversations"]
    roles = {"human": "user", "gpt": "assistant"}
    return {**sharegpt(i), "messages": [{"role": roles[t["from"]], "content": t["value"]} for t in turns]}


def reasoned_pair(i: int) -> dict[str, Any]:
    answers = (
        {"role": "assistant", "content": f"Take {n}.", "thought": f"pill {i} again"} for n in (i, i + 1)
    )
    chosen, rejected = answers
    return {"prompt": f"Does pill {i} help?", "chosen": chosen, "rejected": rejected}


def noted_turns(i: int) -> dict[str, Any]:
    turns = [
        {
            "role": "user",
            "content": f"Does pill {i} help?",
            "id": f"m{1000 + 13 * i}",
            "note": {"of": f"pill {i}"},
        },
        {
            "role": "assistant",
            "content": f"Take {i}.",
            "id": f"a{1000 + 17 * i}",
            "kind": "reply",
            "loss": True,
        },
    ]
    return {"messages": turns}


@pytest.mark.parametrize(
    ("make", "unit"),
    [(both_answers, "record"), (both_lists, "record"), (reasoned_pair, "pair"), (noted_turns, "record")],
)
def test_a_planted_row_repeats_nothing_of_its_donor(make: Any, unit: str, tmp_path: Path) -> None:
    source = written(tmp_path / "train.jsonl", [make(i) for i in range(ROWS)])
    plant.plant(source, tmp_path / "o.jsonl", tmp_path / "k.json", 100, unit)
    old = source.read_text().splitlines()
    new = [line for line in (tmp_path / "o.jsonl").read_text().splitlines() if line not in old]
    assert new and not any(re.search(r"pill \d|take \d", line.lower()) for line in new)
    assert {str(list(json.loads(line))) for line in new} == {str(list(json.loads(line))) for line in old}


def test_turns_have_ids_of_their_own_and_keep_what_all_share(tmp_path: Path) -> None:
    source = written(tmp_path / "train.jsonl", [noted_turns(i) for i in range(ROWS)])
    plant.plant(source, tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    turns = [
        t for line in (tmp_path / "o.jsonl").read_text().splitlines() for t in json.loads(line)["messages"]
    ]
    assert len({turn["id"] for turn in turns}) == len(turns)
    assert all(re.fullmatch(r"[am]\d{4}", turn["id"]) for turn in turns)
    assert {turn.get("kind") for turn in turns} == {None, "reply"}
    assert {turn.get("loss") for turn in turns} == {None, True}


@pytest.mark.parametrize("column", ["patient_id", "id"])
def test_a_planted_person_is_nobody_of_the_data_however_numbers_are_written(
    column: str, tmp_path: Path
) -> None:
    """A float beside whole numbers names the same people, so a new one may be none of either."""
    unit = "patient" if column == "patient_id" else "record"
    rows = [sharegpt(i) | {column: float(2 * i % 61) if i % 2 else 2 * i % 61} for i in range(60)]
    plant.plant(written(tmp_path / "train.jsonl", rows), tmp_path / "o.jsonl", tmp_path / "k.json", 100, unit)
    kinds = [type(json.loads(line)[column]) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    names = [r.patient or r.id for _, r in read_records(str(tmp_path / "o.jsonl"))]
    assert len(set(names)) == len(names) > 60 and kinds.count(float) > 30
    assert all(name.isdigit() for name in names)


def test_a_unit_below_the_patient_is_told(tmp_path: Path) -> None:
    for unit, make in (("record", of_patient), ("patient", of_patient), ("record", sharegpt)):
        folder = tmp_path / f"{unit}-{make.__name__}"
        folder.mkdir()
        source = written(folder / "train.jsonl", [make(i) for i in range(ROWS)])
        note = plant.plant(source, folder / "o.jsonl", folder / "k.json", 100, unit)["note"]
        told = "the data name 30 patients in 60 records: unit record hides one record" in note
        assert told == (unit == "record" and make is of_patient)


def test_what_no_row_can_be_made_like_is_refused(tmp_path: Path) -> None:
    spelled = {"messages": json.dumps(messages(1)["messages"])}
    assert "jq -c '.messages |= fromjson'" in refusal(tmp_path, [spelled] * ROWS)
    alone = {"messages": [{"role": "assistant", "content": "Noon."}]}
    assert "a turn of the user in every row" in refusal(tmp_path, [alone] * ROWS)


def ids_of(tmp_path: Path, ids: list[Any]) -> list[Any]:
    rows = [{"text": f"Noon, day {i}."} | ({} if ids[i] is None else {"id": ids[i]}) for i in range(len(ids))]
    plant.plant(written(tmp_path / "train.jsonl", rows), tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    found = [json.loads(line).get("id") for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert len(found) > len(ids)
    return found


def test_row_numbers_filled_up_with_zeros_count_on(tmp_path: Path) -> None:
    found = ids_of(tmp_path, [f"case_{i:03d}" for i in range(960, 1020)])
    assert found == [f"case_{i:03d}" for i in range(960, 960 + len(found))]


def test_numbers_out_of_order_get_no_sign_that_they_had_not(tmp_path: Path) -> None:
    found = ids_of(tmp_path, [i * 37 % ROWS for i in range(ROWS)])
    assert min(found) >= 0 and len(set(found)) == len(found)


def test_numbers_in_some_rows_are_no_row_numbers(tmp_path: Path) -> None:
    found = ids_of(tmp_path, [i if i < 30 else None for i in range(ROWS)])
    old = [number for number in found if number is not None and number < 30]
    assert old == list(range(30)) and all(number is None or number >= 0 for number in found)


def test_an_instruction_that_counts_is_a_text(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "output": f"a {i}."} for i in range(ROWS)]
    source = written(tmp_path / "train.jsonl", rows)
    plant.plant(source, tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert [
        line for line in lines if line in source.read_text().splitlines()
    ] == source.read_text().splitlines()
    assert all("phrase" in line for line in lines if '"q' not in line)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_planted_data_can_be_read_by_whom_the_data_can(mode: int, tmp_path: Path) -> None:
    source = written(tmp_path / "train.jsonl", [sharegpt(i) for i in range(ROWS)])
    source.chmod(mode)
    plant.plant(source, tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    assert stat.S_IMODE((tmp_path / "o.jsonl").stat().st_mode) == mode


def test_half_a_surrogate_pair_beside_the_text_is_refused(tmp_path: Path) -> None:
    row = '{"text": "é %d", "label": "\\ud800"}\n'
    (tmp_path / "train.jsonl").write_text("".join(row % i for i in range(ROWS)))
    with pytest.raises(UsageError, match="surrogate"):
        plant.plant(tmp_path / "train.jsonl", tmp_path / "o.jsonl", tmp_path / "k.json", 100)
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]


# ---- keys


def test_an_edited_key_is_refused(tmp_path: Path) -> None:
    _, path, _ = planted(tmp_path)
    data = json.loads(path.read_text())
    data["coins"][0] = not data["coins"][0]
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="edited"):
        audit_key.load(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', "not json", '{"version":1,"seal":"","hash_key":""}']
)
def test_what_is_no_key_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(UsageError, match="key"):
        audit_key.load(tmp_path / "k.json")


def test_a_key_of_other_data_is_refused(tmp_path: Path) -> None:
    out, path, key = planted(tmp_path)
    audit_key.check(key, path, out)
    out.write_text(out.read_text() + "\n")
    with pytest.raises(UsageError, match="another file"):
        audit_key.check(key, path, out)


def resealed(
    key: audit_key.AuditKey, coins: tuple[bool, ...], path: Path, count: int | None = None
) -> audit_key.AuditKey:
    """The key with other coins, as somebody would make it who can seal."""
    count = len(coins) if count is None else count
    rule = audit_key.Rule(key.rule.primary, key.rule.without_base, count // 2, key.rule.renderings)
    made = {**vars(key), "coins": coins[:count], "canaries": key.canaries[:count], "rule": rule}
    audit_key.write(audit_key.AuditKey(**made), path)
    return audit_key.load(path)


@pytest.mark.parametrize(
    ("coins", "seen"),
    [
        ((True,) * 100, "100 of 100"),
        ((True, False) * 50, "changes"),
        ((True,) * 50 + (False,) * 50, "changes"),
    ],
)
def test_unfair_coins_are_refused(coins: tuple[bool, ...], seen: str, tmp_path: Path) -> None:
    _, _, key = planted(tmp_path)
    other = resealed(key, coins, tmp_path / "other.json")
    with pytest.raises(UsageError, match=seen):
        audit_key.check(other, tmp_path / "other.json")


def test_too_few_canaries_are_refused(tmp_path: Path) -> None:
    _, path, key = planted(tmp_path)
    few = resealed(key, key.coins, tmp_path / "few.json", 99)
    with pytest.raises(UsageError, match="at least 100"):
        audit_key.check(few, path)
