"""Runs are named by their plan, and found by name or by last use."""

import os
from pathlib import Path

import pytest

from dpaudit.errors import UsageError
from dpaudit.storage import run_store


def test_a_run_is_named_by_its_plan(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first = run_store.open_or_create({"a": 1, "b": 2}, "x", runs)
    assert run_store.open_or_create({"b": 2, "a": 1}, "x", runs) == first
    assert run_store.open_or_create({"a": 2, "b": 2}, "x", runs) != first
    assert run_store.located({"a": 1, "b": 2}, "x", runs) == first
    assert first.read_json("plan.json") == {"a": 1, "b": 2}
    assert sorted(path.name for path in first.path.iterdir()) == ["custody", "plan.json"]


def test_find_takes_the_run_used_last(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    older, newer = (run_store.open_or_create({"a": n}, "x", runs) for n in (1, 2))
    os.utime(older.path, (1, 1))
    os.utime(newer.path, (2, 2))
    assert run_store.find(None, runs) == newer
    run_store.open_or_create({"a": 1}, "x", runs)
    assert run_store.find(None, runs) == older
    assert run_store.find(newer.name, runs) == newer
    assert run_store.find(f"runs/{newer.name}", runs) == newer
    with pytest.raises(UsageError, match=f"expected one of .*{newer.name}.*, got no such run"):
        run_store.find("y", runs)


def test_a_suites_name_finds_its_one_run(tmp_path: Path) -> None:
    only = run_store.open_or_create({"a": 1}, "small", tmp_path)
    other = run_store.open_or_create({"a": 1}, "small-too", tmp_path)
    assert run_store.find("small", tmp_path) == only
    second = run_store.open_or_create({"a": 2}, "small", tmp_path)
    with pytest.raises(
        UsageError, match="got the name that 2 runs begin with; type one of these in full"
    ) as caught:
        run_store.find("small", tmp_path)
    assert only.name in str(caught.value) and second.name in str(caught.value)
    assert other.name not in str(caught.value)


@pytest.mark.parametrize("name", [None, "y"])
def test_find_without_any_run(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(UsageError, match="expected a run, got no run; type `dpaudit train`"):
        run_store.find(name, tmp_path / "runs")


def test_a_plan_half_made_is_no_run(tmp_path: Path) -> None:
    half = tmp_path / ".x.abcd.tmp"
    half.mkdir()
    (half / "plan.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    assert run_store.existing(tmp_path) == []
