"""One command of a kind on a run at a time; what a killed one left is swept."""

import tempfile
from pathlib import Path

import pytest

from dpaudit.errors import UsageError
from dpaudit.storage import exclusive
from dpaudit.storage.rundir import RunDir


def test_a_second_command_of_a_kind_is_kept_from_the_same_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "runs" / "one")
    with exclusive.writing(run_dir, "train"):
        with (
            pytest.raises(UsageError, match="got another dpaudit, process"),
            exclusive.writing(run_dir, "train"),
        ):
            pass
        with (
            exclusive.writing(run_dir, "judge"),
            exclusive.writing(RunDir(tmp_path / "runs" / "two"), "train"),
        ):
            pass
    with exclusive.writing(run_dir, "train"):
        pass
    assert list(tmp_path.iterdir()) == []


LEFT = {
    "train": (
        "train/.sft-inf.0123abcd.tmp",
        ".units-sft.0123abcd.tmp",
        ".corpus.0123abcd.tmp",
        "secret/states/.a.json.0123abcd.tmp",
    ),
    "attack": ("attack/sft-inf/.loss.parquet.0123abcd.tmp", "attack/sft-inf/shadows/.units.0123abcd.tmp"),
    "shadows": (
        "attack/sft-inf/shadows/.shadow-001.0123abcd.tmp",
        "attack/sft-inf/shadows/.units.0123abcd.tmp",
    ),
    "audit": ("audit/sft-inf/.loss.json.0123abcd.tmp",),
    "evaluate": ("evaluate/.cache.0123abcd.tmp", "evaluate/.base.json.0123abcd.tmp"),
    "judge": ("judge/.answers.jsonl.0123abcd.tmp",),
    "report": ("report/.index.html.0123abcd.tmp",),
}


@pytest.mark.parametrize("work", LEFT)
def test_what_a_killed_command_left_is_swept_by_the_next_of_its_kind(work: str, tmp_path: Path) -> None:
    """And nothing of another kind, which may be at work."""
    run_dir = RunDir(tmp_path / "one")
    places = {run_dir.file(place): kind for kind, found in LEFT.items() for place in found}
    for place in places:
        place.mkdir(parents=True)
        (place / "tokens").write_text("x")
    half = tmp_path / ".one.0123abcd.tmp"  # a plan that never came into place
    half.mkdir()
    exclusive.sweep(run_dir, work)
    gone = {place for place in places if not place.exists()}
    theirs = (
        LEFT["attack"] + LEFT["shadows"] if work == "attack" else LEFT[work]
    )  # shadows are trained in stage attack
    assert gone == {run_dir.file(place) for place in theirs}
    assert half.exists() == (work != "train")


def test_a_folder_outside_of_a_run_goes_with_its_block_or_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "dpaudit-0123456789abcdef"
    left.mkdir()
    with exclusive.scratch() as first:
        assert not left.exists() and first.stat().st_mode & 0o777 == 0o700
        with exclusive.scratch() as second:
            assert first.is_dir() and second.is_dir()
    assert list(tmp_path.iterdir()) == []
