"""Units that a coin leaves out: the file shows nothing, near-duplicates get no coin, and the key holds no
text.
"""

import json
import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from test_audit_key import sealed
from test_plant import written
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.data.common_words import COMMON_WORDS
from dpaudit.data.reading import read_records
from dpaudit.errors import UsageError
from dpaudit.planting import audit_key, hold_out
from dpaudit.planting.audit_key import AuditKey

ROWS = 240
WORDS = sorted(COMMON_WORDS)


def said(name: str, count: int = 12) -> str:
    return " ".join(random.Random(name).choices(WORDS, k=count))


def dialogue(i: int) -> dict[str, Any]:
    return {"id": i, "prompt": f"{said(f'q{i}')}?", "completion": f"{said(f'a{i}')}."}


def pair(i: int) -> dict[str, Any]:
    return {"prompt": said(f"q{i}"), "chosen": said(f"a{i}"), "rejected": said(f"b{i}")}


def of_patient(i: int) -> dict[str, Any]:
    return {"patient_id": f"P{i // 2 * 7}", "text": said(f"t{i}", 20)}


SHAPES: dict[str, tuple[Any, str]] = {
    "dialogue": (dialogue, "record"),
    "pair": (pair, "pair"),
    "patient": (of_patient, "patient"),
}


def held(
    folder: Path, rows: list[dict[str, Any]], count: int = 100, unit: str = "record"
) -> tuple[Path, Path, AuditKey]:
    source = written(folder / "train.jsonl", rows)
    hold_out.hold_out(source, folder / "out.jsonl", folder / "key.json", count, unit)
    return source, folder / "out.jsonl", audit_key.load(folder / "key.json")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unit_stays_whole_or_is_gone_whole(shape: str, tmp_path: Path) -> None:
    make, unit = SHAPES[shape]
    source, out, key = held(tmp_path, [make(i) for i in range(ROWS)], unit=unit)
    before = [json.loads(line) for line in source.read_text().splitlines()]
    after = [json.loads(line) for line in out.read_text().splitlines()]
    numbered = shape == "dialogue"
    if numbered:  # row numbers count on, so that no gap shows
        assert [row.pop("id") for row in after] == list(range(len(after)))
        before = [{k: v for k, v in row.items() if k != "id"} for row in before]
    assert len(key.coins) == len(key.held_out) == 100 and not key.canaries
    assert all(len(unit.rows) == (2 if shape == "patient" else 1) for unit in key.held_out)
    gone = {
        row - 1 for unit, stays in zip(key.held_out, key.coins, strict=True) if not stays for row in unit.rows
    }
    assert after == [row for number, row in enumerate(before) if number not in gone]
    assert len(after) == key.rows


def test_coins_are_fair_and_drawn_anew(tmp_path: Path) -> None:
    heads = 0
    seen = set()
    for name in "abcd":
        (tmp_path / name).mkdir()
        _, _, key = held(tmp_path / name, [dialogue(i) for i in range(ROWS)], 200)
        heads += sum(key.coins)
        seen.add(key.coins)
    assert len(seen) == 4 and binomtest(heads, 800).pvalue > 1e-6


def test_the_key_holds_no_text_and_no_plain_hash(tmp_path: Path) -> None:
    _, _, key = held(tmp_path, [dialogue(i) for i in range(ROWS)])
    text = (tmp_path / "key.json").read_text()
    assert stat.S_IMODE((tmp_path / "key.json").stat().st_mode) == 0o600
    rows = [dialogue(i) for i in range(ROWS)]
    assert not any(row["prompt"] in text or row["completion"] in text for row in rows)
    assert len({unit.digest for unit in key.held_out}) == 100
    records = [record for _, record in read_records(str(tmp_path / "train.jsonl"))]
    at = key.held_out[0].rows[0] - 1
    assert hold_out.digest_of([records[at]], bytes.fromhex(key.hash_key)) == key.held_out[0].digest
    assert hold_out.digest_of([records[at]], bytes(32)) != key.held_out[0].digest


@pytest.mark.parametrize("shape", SHAPES)
def test_the_texts_are_read_again(shape: str, tmp_path: Path) -> None:
    make, unit = SHAPES[shape]
    source, _, key = held(tmp_path, [make(i) for i in range(ROWS)], unit=unit)
    whole = hold_out.restored(key, tmp_path / "key.json", source)
    for one, canary in zip(key.held_out, whole.canaries, strict=True):
        row = make(one.scored - 1)
        answer = row.get("completion") or row.get("chosen") or row["text"]
        assert canary.secret == answer and canary.rejected == row.get("rejected")
        assert canary.record.patient is None and one.scored in one.rows
    assert audit_key.commitment(key) != audit_key.commitment(whole)


def test_of_a_long_answer_the_end_is_scored(tmp_path: Path) -> None:
    rows = [dialogue(i) | {"completion": said(f"a{i}", 400)} for i in range(ROWS)]
    source, _, key = held(tmp_path, rows)
    for canary in hold_out.restored(key, tmp_path / "key.json", source).canaries:
        assert len(canary.secret) <= hold_out.LONGEST
        assert canary.record.turns[-1].text.endswith(canary.secret)


def test_near_duplicates_get_no_coin(tmp_path: Path) -> None:
    """Neither rows that say the same, nor rows whose answers do."""
    rows = [dialogue(i) for i in range(ROWS)]
    for i in range(0, 100, 2):
        rows[i + 1] = rows[i] | {"id": i + 1, "prompt": rows[i]["prompt"].upper()}
    for i in range(100, 120, 2):
        rows[i + 1]["completion"] = rows[i]["completion"]
    _, _, key = held(tmp_path, rows)
    assert all(row > 120 for unit in key.held_out for row in unit.rows)


def test_a_patient_is_compared_with_others_alone(tmp_path: Path) -> None:
    rows = [of_patient(i) | {"text": said(f"t{i // 2}", 20)} for i in range(2 * ROWS)]
    rows += [{"patient_id": "P1", "text": said("t3", 20)}]
    _, _, key = held(tmp_path, rows, unit="patient")
    assert not any(row in (7, 8, len(rows)) for unit in key.held_out for row in unit.rows)


def refused(tmp_path: Path, rows: list[dict[str, Any]], count: int, unit: str = "record") -> str:
    source = written(tmp_path / "train.jsonl", rows)
    with pytest.raises(UsageError) as caught:
        hold_out.hold_out(source, tmp_path / "o.jsonl", tmp_path / "k.json", count, unit)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"] and "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals(tmp_path: Path) -> None:
    rows = [dialogue(i) for i in range(ROWS)]
    assert "--hold-out: expected at most 240, the units of" in refused(tmp_path, rows, 241)
    assert "--hold-out: expected 100 to 20,000, got 99" in refused(tmp_path, rows, 99)
    assert "expected at most 0" in refused(tmp_path, [dialogue(0)] * ROWS, 100)
    assert "patient_id" in refused(tmp_path, rows, 100, "patient")


@pytest.mark.parametrize("change", ["edited", "shorter", "planted"])
def test_another_file_is_refused(change: str, tmp_path: Path) -> None:
    source, out, key = held(tmp_path, [dialogue(i) for i in range(ROWS)])
    if change == "edited":
        row = key.held_out[0].rows[0] - 1
        lines = source.read_text().splitlines()
        lines[row] = lines[row].replace("?", "!")
        source.write_text("\n".join(lines) + "\n")
    elif change == "shorter":
        source.write_text("\n".join(source.read_text().splitlines()[:50]) + "\n")
    other = out if change == "planted" else source
    told = "the file that it wrote" if change == "planted" else "other rows for"
    with pytest.raises(UsageError, match=told) as caught:
        hold_out.restored(key, tmp_path / "key.json", other)
    assert change != "edited" or "other rows for 1 of 100 units" in str(caught.value)


def test_ids_and_layout_are_no_part_of_what_is_compared(tmp_path: Path) -> None:
    source, _, key = held(tmp_path, [dialogue(i) for i in range(ROWS)])
    rows = [{**json.loads(line), "id": f"n{n}"} for n, line in enumerate(source.read_text().splitlines())]
    source.write_text("\n\n".join(json.dumps(row, indent=None, separators=(",", ":")) for row in rows))
    assert len(hold_out.restored(key, tmp_path / "key.json", source).canaries) == 100


def test_without_the_file_before_planting_nothing_is_asked(tmp_path: Path) -> None:
    _, _, key = held(tmp_path, [dialogue(i) for i in range(ROWS)])
    with pytest.raises(UsageError, match="--data: expected the original file"):
        hold_out.restored(key, tmp_path / "key.json", None)


EDITS: list[tuple[list[Any], Any]] = [
    (["held_out", 0, "rows"], []),
    (["held_out", 0, "rows"], [0]),
    (["held_out", 0, "rows"], ["1"]),
    (["held_out", 0, "rows"], [1, 2]),
    (["held_out", 0, "scored"], 0),
    (["held_out", 0, "digest"], "0" * 63),
    (["held_out", 0, "digest"], None),
    (["held_out", 0, "more"], 1),
    (["held_out"], []),
    (["coins"], [True] * 99),
    (["unit"], "pairs"),
]


@pytest.mark.parametrize(("place", "value"), EDITS)
def test_an_edited_key_is_refused(place: list[Any], value: Any, tmp_path: Path) -> None:
    held(tmp_path, [dialogue(i) for i in range(ROWS)])
    data = json.loads((tmp_path / "key.json").read_text())
    holder = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(UsageError, match="edited or broken key"):
        audit_key.load(sealed(data, tmp_path / "k.json"))


def test_two_units_of_one_row_are_refused(tmp_path: Path) -> None:
    held(tmp_path, [dialogue(i) for i in range(ROWS)])
    data = json.loads((tmp_path / "key.json").read_text())
    data["held_out"][1] = data["held_out"][0]
    with pytest.raises(UsageError, match="edited or broken key"):
        audit_key.load(sealed(data, tmp_path / "k.json"))


def test_the_command_holds_out(tmp_path: Path) -> None:
    source = written(tmp_path / "train.jsonl", [dialogue(i) for i in range(ROWS)])
    words = ["plant", str(source), "--out", str(tmp_path / "o.jsonl"), "--key", str(tmp_path / "k.json")]
    for more in (["--canaries", "100"], ["--family", "natural"]):
        both = CliRunner().invoke(app, [*words, "--hold-out", "100", *more])
        assert isinstance(both.exception, UsageError)
        assert "canaries or units to hold out, got both" in str(both.exception)
    done = CliRunner().invoke(app, [*words, "--hold-out", "100", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and told["held_out"] == "each of 100 units with probability one half"
    assert "sampling rate, depends on the coins" in told["note"] and f"--data {source}" in told["next"]
    needed = told["right_guesses_needed"]
    assert "43 of 50 to refute epsilon 1, impossible below 123 coins for epsilon 3" in needed
    assert not {"coins", "digest", "rows"} & set(told) and told["renumbered"] == ["id"]


KILLED = """
import os, signal, sys
from pathlib import Path
from dpaudit.planting import audit_key, hold_out
write = audit_key.write
def last(*words):
    write(*words)
    os.kill(os.getpid(), signal.SIGKILL)
audit_key.write = last
hold_out.hold_out(Path("train.jsonl"), Path("out.jsonl"), Path("key.json"), 100)
"""


def test_after_a_kill_nothing_counts_and_the_next_command_cleans_up(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", [dialogue(i) for i in range(ROWS)])
    search = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=search)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "key.json").exists()
    assert any(path.name.startswith(".key.json") for path in tmp_path.iterdir())
    hold_out.hold_out(tmp_path / "train.jsonl", tmp_path / "out.jsonl", tmp_path / "key.json", 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.json", "out.jsonl", "train.jsonl"]
