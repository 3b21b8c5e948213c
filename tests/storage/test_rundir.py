"""The run directory: whole files only, inputs named, stale outputs refused."""

import hashlib
import hmac
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dpaudit.errors import UsageError
from dpaudit.storage import custody, exclusive, run_store, whole_files
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.sidecars import write_sealed_lines


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return run_store.open_or_create({"a": 1}, "x", tmp_path / "runs")


def test_outputs_name_their_inputs(run_dir: RunDir) -> None:
    run_dir.write_json("a.json", {"n": np.int64(3), "v": np.array([1.5])})
    run_dir.write_json("b.json", {"x": 1}, inputs=["a.json"])
    assert run_dir.read_json("a.json") == {"n": 3, "v": [1.5], "inputs": {}}
    assert run_dir.is_current("b.json", ["a.json"])
    run_dir.require_current("b.json", ["a.json"], "dpaudit train")
    run_dir.write_json("a.json", {"n": 4})
    assert not run_dir.is_current("b.json", ["a.json"])
    with pytest.raises(
        UsageError, match=r"b\.json: expected a file made from the present a\.json.*`dpaudit train` again"
    ):
        run_dir.require_current("b.json", ["a.json"], "dpaudit train")


def test_other_inputs_than_recorded_are_not_current(run_dir: RunDir) -> None:
    run_dir.write_json("a.json", {})
    run_dir.write_json("b.json", {}, inputs=["a.json"])
    assert not run_dir.is_current("b.json", [])
    assert not run_dir.is_current("b.json", ["a.json", "gone.json"])
    assert not run_dir.is_current("c.json", [])


def test_parquet_carries_inputs_in_its_metadata(run_dir: RunDir) -> None:
    import pyarrow
    import pyarrow.parquet

    run_dir.write_json("a.json", {})
    table = pyarrow.table({"value": [1.0]})
    told = {"inputs": run_dir.digests(["a.json"])}
    table = table.replace_schema_metadata(run_dir.stamped_metadata("s.parquet", told))
    pyarrow.parquet.write_table(table, run_dir.file("s.parquet"))
    assert run_dir.is_current("s.parquet", ["a.json"])
    run_dir.file("s.parquet").rename(run_dir.file("t.parquet"))
    with pytest.raises(
        UsageError,
        match=r"t\.parquet: expected the file as this run wrote it, got an altered file, or the file of "
        r"another output",
    ):
        run_dir.is_current("t.parquet", ["a.json"])


def test_a_failed_write_leaves_the_old_file(run_dir: RunDir) -> None:
    run_dir.write_json("a.json", {"n": 1})
    with pytest.raises(TypeError):
        run_dir.write_json("a.json", {"n": object()})
    with pytest.raises(ZeroDivisionError):
        run_dir.write_lines("a.json", ({"n": 1 // n} for n in (1, 0)))
    assert run_dir.read_json("a.json")["n"] == 1
    assert sorted(path.name for path in run_dir.path.iterdir()) == ["a.json", "custody", "plan.json"]


def test_a_directory_is_whole_or_not_there(run_dir: RunDir) -> None:
    with pytest.raises(KeyboardInterrupt), run_dir.whole_directory("train/arm") as folder:
        (folder / "part").write_text("half")
        raise KeyboardInterrupt
    assert list(run_dir.file("train").iterdir()) == []
    (run_dir.new_folder("train/arm") / "part").write_text("of a killed worker")
    for text in ("one", "two"):
        with run_dir.whole_directory("train/arm") as folder:
            (folder / "part").write_text(text)
    assert run_dir.file("train/arm/part").read_text() == "two"
    assert len(list(run_dir.file("train").iterdir())) == 1


@pytest.mark.parametrize(
    ("relative", "command"),
    [
        ("train/sft-eps8/privacy.json", "dpaudit train"),
        ("corpus/manifest.json", "dpaudit train"),
        ("attack/sft-eps8/loss.parquet", "dpaudit attack mia"),
        ("audit/sft-eps8/extraction.json", "dpaudit attack extract"),
        ("evaluate/base.json", "dpaudit eval"),
        ("judge/summary.json", "dpaudit judge"),
        ("report/report.json", "dpaudit report html"),
    ],
)
def test_a_missing_output_names_the_command_that_makes_it(
    run_dir: RunDir, relative: str, command: str
) -> None:
    if command != "dpaudit train":  # which finds its run by the plan
        command += f" --run {run_dir.name}"
    with pytest.raises(UsageError, match=f"{relative}: expected .* type `{command}` first"):
        run_dir.read_json(relative)


def test_broken_json_is_one_line(run_dir: RunDir) -> None:
    run_dir.file("a.json").write_text("{\n oops")
    with pytest.raises(UsageError, match="expected JSON, got a syntax error in line 2"):
        run_dir.read_json("a.json")
    run_dir.file("a.json").write_text("[1]")
    with pytest.raises(UsageError, match="expected a JSON object, got a list"):
        run_dir.read_json("a.json")


def test_a_digest_of_private_data_is_keyed(run_dir: RunDir) -> None:
    run_dir.file("secret").mkdir()
    digests = set()
    for key in (b"k1", b"k2"):
        run_dir.secret_file("hash.key").write_bytes(key)
        digests.add(run_dir.keyed_digest("plan.json"))
    assert len(digests) == 2 and run_dir.digest("plan.json") not in digests


def test_lines_keep_their_text(run_dir: RunDir) -> None:
    rows = [{"t": "头疼"}, {"t": "a\u2028b"}]
    run_dir.write_lines("rows.jsonl", rows)
    assert run_dir.read_lines("rows.jsonl") == rows


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b"{" * 9,
        b"9" * 6000,
        b"[1]",
        b"null",
        b'"words"',
        b"\0",
        b'{"a": "Mopana"',
    ],
)
def test_a_row_of_another_kind_is_one_line_that_quotes_nothing(line: bytes, run_dir: RunDir) -> None:
    run_dir.write_lines("judge/rows.jsonl", [{"a": 1}])
    with run_dir.file("judge/rows.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    with pytest.raises(
        UsageError,
        match=r"rows.jsonl: expected a JSON object in each line, got no JSON object in line 2; .*judge",
    ) as caught:
        run_dir.read_lines("judge/rows.jsonl")
    assert "Mopana" not in str(caught.value)


def test_rows_are_for_their_owner_alone_and_pages_for_whom_the_system_lets(run_dir: RunDir) -> None:
    """Prompts, answers and records stay private where a run is copied to; its own folder alone is no fence
    then.
    """
    run_dir.write_lines("corpus/rows.jsonl", [{"a": 1}])
    write_sealed_lines(run_dir, "judge/rows.jsonl", [{"a": 1}])
    whole_files.write_text(run_dir.file("page.html"), "<p>")
    modes = [
        stat.S_IMODE(run_dir.file(name).stat().st_mode)
        for name in ("corpus/rows.jsonl", "judge/rows.jsonl", "page.html")
    ]
    umask = os.umask(0)
    os.umask(umask)
    assert modes == [0o600, 0o600, 0o666 & ~umask]


def test_lines_are_written_and_read_one_at_a_time(run_dir: RunDir) -> None:
    written: list[int] = []

    def rows() -> Iterator[dict[str, int]]:
        for n in range(3):
            written.append(n)
            yield {"n": n}

    run_dir.write_lines("corpus/a.jsonl", rows())
    assert written == [0, 1, 2]
    found = run_dir.iterate_lines("corpus/a.jsonl")
    assert next(found) == {"n": 0} and list(found) == run_dir.read_lines("corpus/a.jsonl")[1:]
    with pytest.raises(UsageError, match="expected a finished output"):
        next(run_dir.iterate_lines("corpus/none.jsonl"))


def test_rows_that_fail_half_way_leave_no_file(run_dir: RunDir) -> None:
    with pytest.raises(ZeroDivisionError):
        run_dir.write_lines("corpus/a.jsonl", ({"n": 1 // n} for n in (1, 0)))
    assert list(run_dir.file("corpus").iterdir()) == []


def test_a_digest_by_pieces_is_that_of_the_whole(run_dir: RunDir) -> None:
    data = bytes(range(256)) * 12_000  # three pieces
    run_dir.file("big").write_bytes(data)
    assert run_dir.digest("big") == hashlib.sha256(data).hexdigest()[:32]
    whole = hmac.new(b"key", data, hashlib.sha256).hexdigest()[:32]
    assert custody.keyed_file_digest(run_dir.file("big"), b"key") == whole


def test_a_folders_digest_knows_names_and_bytes(tmp_path: Path) -> None:
    digests = set()
    for names in (["a"], ["b"], ["a", "b"], ["a/c"]):
        for text in ("x", "y"):
            folder = tmp_path / f"{len(digests)}"
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            digests.add(custody.keyed_file_digest(folder, b"key"))
            assert custody.keyed_file_digest(folder, b"key") in digests
    assert len(digests) == 8


def test_a_work_folder_is_the_owners_alone_and_swept(run_dir: RunDir) -> None:
    folder = run_dir.new_folder("units-sft")
    assert folder.stat().st_mode & 0o777 == 0o700 and folder != run_dir.new_folder("units-sft")
    (folder / "tokens").write_text("x")
    exclusive.sweep(run_dir, "train")
    assert sorted(path.name for path in run_dir.path.iterdir()) == ["custody", "plan.json"]
