"""A full disk and a folder that takes no writing are one line that names the folder, whatever library met
them.
"""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpaudit.errors import PartialError, UsageError
from dpaudit.storage import disk
from dpaudit.storage.rundir import RunDir

MiB = 1 << 20


def mounted(place: Path, *options: str) -> bool:
    place.mkdir(exist_ok=True)
    return not subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(place)], capture_output=True
    ).returncode


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for half a MiB."""
    place = tmp_path / "disk"
    if not mounted(place, "-o", "size=512k"):
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def text(folder: Path) -> None:
    (folder / "a").write_text("x" * MiB)


def array(folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros(MiB, np.uint8))


def tensors(folder: Path) -> None:
    import safetensors.torch
    import torch

    safetensors.torch.save_file({"a": torch.zeros(MiB, dtype=torch.uint8)}, folder / "a.safetensors")


def table(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(
        pyarrow.table({"a": np.random.default_rng(0).random(MiB // 4)}), folder / "a.parquet"
    )


def database(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "a.sqlite")) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1024,)] * 1024)
        connection.commit()


def tokenizer(folder: Path) -> None:
    import tokenizers

    words = {f"word{n}": n for n in range(100_000)}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="word0")).save(str(folder / "a.json"))


def dataset(folder: Path) -> None:
    import datasets

    source = folder.parent / "rows.jsonl"
    source.write_text("".join(f'{{"a": "{number:0100}"}}\n' for number in range(20_000)))
    datasets.load_dataset("json", data_files=str(source), cache_dir=str(folder))


WRITERS = [text, array, tensors, table, database, tokenizer, dataset]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_in_every_library_that_we_write_with(
    write: Callable[[Path], None], small_disk: Path
) -> None:
    with pytest.raises(PartialError) as told, disk.room(small_disk):
        write(small_disk)
    assert str(told.value) == (
        f"{small_disk}: expected room for what is written there, got a full disk; make room and type the "
        f"same command again"
    )


def test_a_disk_that_was_full_before(small_disk: Path) -> None:
    """`datasets` looks beforehand, and has words of its own."""
    with suppress(OSError):
        text(small_disk)
    with pytest.raises(PartialError, match="got a full disk"), disk.room(small_disk):
        dataset(small_disk)


@pytest.mark.parametrize("write", WRITERS)
def test_where_there_is_room_nothing_is_told(write: Callable[[Path], None], tmp_path: Path) -> None:
    with disk.room(tmp_path):
        write(tmp_path)


def test_an_error_of_another_kind_goes_its_way(tmp_path: Path) -> None:
    for error in (
        ValueError("3 of 4"),
        OSError(5, "Input/output error"),
        PermissionError(13, "Permission denied", "/elsewhere"),
        UsageError("a", "b", "c"),
    ):
        with pytest.raises(type(error)) as raised, disk.room(tmp_path):
            raise error
        assert raised.value is error


def test_what_a_library_made_of_a_full_disk_is_told_too(tmp_path: Path) -> None:
    """As `datasets` does, whose own error names no cause in its text."""
    with pytest.raises(PartialError, match="got a full disk"), disk.room(tmp_path):
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("An error occurred while generating the dataset") from error


def test_a_folder_that_takes_no_writing_is_named(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    if not mounted(place, "-o", "ro"):
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(UsageError) as told, disk.room(place / "run"):
            (place / "run").mkdir()
        assert str(told.value) == (
            f"{place / 'run'}: expected a folder with write permission, got a folder without write "
            f"permission ({os.strerror(30)});"
            " change its permissions or mount, or name another folder"
        )
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("step", ["_remove", "remove", "room"])
def test_an_interrupt_at_any_step_leaves_no_work_folder(
    step: str, is_after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, is_first = getattr(disk, step), True

    def broken_off(path: Path) -> Any:
        nonlocal is_first
        was_first, is_first = is_first, False
        if was_first and not is_after:
            raise KeyboardInterrupt
        found = work(path)
        if was_first:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(disk, step, broken_off)
    with pytest.raises(KeyboardInterrupt), RunDir(tmp_path).work_folder("evaluate/cache") as folder:
        (folder / "text").write_text("private")
    assert not list(tmp_path.rglob("*.tmp"))
