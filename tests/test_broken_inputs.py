"""Claims, score files and conformance files of any kind are used or refused in one line that quotes no
row.
"""

import json
import os
import random
from pathlib import Path

import fuzzing
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpaudit import schema
from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.stages import verify_facts

CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"
METHODS = ("one-run", "f-dp", "clopper-pearson", "bayes")
NAME = "Mopana"  # of a patient, in a column beside the scores


def test_any_claim_is_read_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    read = 0
    for seed in range(400):
        draw = random.Random(seed)
        text = os.fsdecode(fuzzing.mutated_bytes(CLAIM.encode(), draw).replace(b"\0", b""))
        try:
            claim = claims.parse(text)
            assert 0 <= claim.epsilon < float("inf") and 0 <= claim.delta < 1
            read += 1
        except UsageError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
        if seed < 20:
            words = ["verify", "--adapter", "a", "--key", "k.json", "--claim", text]
            fuzzing.check(fuzzing.outcome(words, monkeypatch, capfd), text, codes=(2,))
    assert 3 < read < 390


def scores(folder: Path, kind: str) -> Path:
    draw = np.random.default_rng(0)
    included = draw.random(60) < 0.5
    values = draw.normal(0, 1, 60) + included
    file = folder / f"scores.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"score": values, "included": included, "name": [NAME] * 60}), file)
    else:
        rows = [f"{NAME} {n},{v},{int(i)}" for n, (v, i) in enumerate(zip(values, included, strict=True))]
        file.write_text("name,score,included\n" + "\n".join(rows) + "\n")
    return file


@pytest.mark.parametrize("count", [24, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_any_score_file_is_used_or_one_line(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = scores(tmp_path, kind)
    data, used = file.read_bytes(), 0
    for seed in range(count):
        draw = random.Random(seed)
        file.write_bytes(fuzzing.mutated_bytes(data, draw))
        words = ["bound", "scores", str(file), "--delta", "1e-5", "--method", METHODS[seed % 4]]
        done = fuzzing.outcome(words, monkeypatch, capfd)
        fuzzing.check(done, (seed, words), private=(NAME,))
        used += done.code == 0
    assert 0 < used < count


def test_any_conformance_file_is_shown_or_one_line(tmp_path: Path) -> None:
    """What is shown is printable, short and text, whatever stands in the file."""
    checks = [
        {"check": "clip", "result": "pass", "seen": "1.0"},
        {"check": "noise", "result": "fail", "seen": "0"},
    ]
    whole, shown = {"version": 1, "checks": checks, "steps": 3}, 0
    for seed in range(400):
        draw = random.Random(seed)
        data = fuzzing.as_json(fuzzing.mutated(whole, draw))
        (tmp_path / "c.json").write_bytes(data if seed % 2 else fuzzing.mutated_bytes(data, draw))
        try:
            found = verify_facts.recorded(tmp_path / "c.json")
        except UsageError as error:
            assert str(error).isprintable()
            continue
        assert found is not None
        for check in found.checks:
            assert all(value.isprintable() and len(value) < 500 for value in vars(check).values())
        shown += 1
    assert 10 < shown < 390
    (tmp_path / "c.json").write_text(json.dumps(whole))
    assert schema.plain(verify_facts.recorded(tmp_path / "c.json")) == {"checks": checks}
