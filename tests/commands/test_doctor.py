"""The check of the machine, and the command that prints it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.commands import doctor, selftest


def test_the_machine_is_described() -> None:
    found = doctor.machine()
    assert found["cores"] >= 1
    assert 0 < found["memory_free_gib"] <= found["memory_gib"]
    assert {"torch", "peft", "scipy"} <= {row["package"] for row in found["packages"]}


def test_packages_are_compared_with_the_constraints(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    installed = {row["package"]: row["installed"] for row in doctor.packages(tmp_path / "none.txt")}
    constraints.write_text(f"numpy=={installed['numpy']}\nscipy==0.1\n", encoding="utf-8")
    rows = {row["package"]: row for row in doctor.packages(constraints)}
    assert (rows["numpy"]["same"], rows["scipy"]["same"], rows["peft"]["same"]) == (True, False, None)
    assert rows["scipy"]["tested"] == "0.1"


def test_the_command_prints_the_machine_as_json() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["python"].startswith("3.")


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_the_self_test_sets_the_exit_code(passed: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"passed": passed, "not_observable": ["tuning"]}
    monkeypatch.setattr(selftest, "run", lambda progress, seed, workers: found)
    result = CliRunner().invoke(app, ["doctor", "--self-test", "--json"])
    assert result.exit_code == code
    assert json.loads(result.stdout) == found
