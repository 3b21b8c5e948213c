"""What `list` shows, and what `rm` removes."""

import json
import shutil
from pathlib import Path

import fabricate
import jsonschema
import pytest
from typed import Call

from dpaudit import content
from dpaudit.data import canary
from dpaudit.planting import families
from dpaudit.storage import lock, whole_files


def test_everything_that_ships_is_listed_with_a_word_about_it(call: Call) -> None:
    found = json.loads(call("list", "--json").out)
    named = {kind: [row["name"] for row in rows] for kind, rows in found.items()}
    assert named["suites"] == sorted(content.listing("suites"))
    assert named["recipes"] == sorted(content.listing("attacks"))
    assert named["judges"] == sorted(content.listing("judges"))
    assert "pubmedqa_file" in named["tasks"]
    assert named["families"] == [*canary.FAMILIES, *families.NAMES]
    assert all(row["what"] for rows in found.values() for row in rows)


def test_one_kind_is_listed_with_what_is_yours(call: Call) -> None:
    Path("suites").mkdir()
    Path("suites/ours.yaml").write_text("name: ours\ndescription: Of this ward.\n")
    lines = call("list", "suites").out.splitlines()
    assert lines[0] == "suites" and "recipes" not in lines
    assert any(line.split() == ["ours", "Of", "this", "ward.", "(your", "folder)"] for line in lines)
    assert sum("(your folder)" in line for line in lines) == 1
    unknown = call("list", "models")
    assert unknown.code == 2 and "families" in unknown.err


@pytest.mark.parametrize(
    ("kind", "folder"), [("suites", "suites"), ("recipes", "attacks"), ("judges", "judges")]
)
def test_an_editor_is_told_every_key_and_what_it_means(call: Call, kind: str, folder: str) -> None:
    """Every file that ships has the form; a key that there is not is found. Each key has a word about it."""
    schema = json.loads(call("list", kind, "--schema").out)
    form = jsonschema.Draft202012Validator(schema)
    form.check_schema(schema)
    for file in content.listing(folder).values():
        written = content.load_yaml(file)
        assert not list(form.iter_errors(written)), file.name
        assert list(form.iter_errors({**written, "lerning_rate": 1}))
    for inner in (schema, *schema["$defs"].values()):
        assert not [key for key, about in inner["properties"].items() if not about.get("description")]


def test_a_schema_is_of_files_that_are_written(call: Call) -> None:
    refused = call("list", "tasks", "--schema")
    assert refused.code == 2 and "expected one of suites, recipes, judges" in refused.err


def test_a_run_is_removed_only_when_it_is_meant(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    asked = call("rm", run_dir.name)
    assert asked.code == 2 and "--yes" in asked.err
    assert f"would remove: {run_dir.name}" in asked.out and "sft-eps8" in asked.out
    part = call("rm", run_dir.name.rsplit("-", 1)[0], "--yes")
    assert part.code == 2 and "full name" in part.err and run_dir.name in part.err
    assert run_dir.path.is_dir()
    done = call("rm", run_dir.name, "--yes")
    assert done.code == 0 and not any(Path("runs").glob("*")) and not any(Path("runs").glob(".*.tmp"))
    gone = call("rm", run_dir.name, "--yes")
    assert gone.code == 2 and "expected a run" in gone.err


def test_a_run_at_work_is_not_removed(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    with lock.held(run_dir.path, "judge"):
        refused = call("rm", run_dir.name, "--yes")
    assert refused.code == 2 and run_dir.path.is_dir()
    assert call("show", run_dir.name).code == 0


def test_what_a_killed_removal_left_goes_with_the_next(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    with monkeypatch.context() as killed:
        killed.setattr("dpaudit.storage.exclusive.remove_left", lambda path: None)
        call("rm", run_dir.name, "--yes")
    assert len(list(Path("runs").glob(".*.tmp"))) == 1 and call("ls").out.count(run_dir.name) == 0
    again, _ = fabricate.run(Path("runs"), ("train",))
    assert again.name == run_dir.name
    assert call("rm", again.name, "--yes").code == 0
    assert not list(Path("runs").glob(".*.tmp"))


def test_a_killed_removal_is_ended_by_the_same_command(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    run_dir.path.rename(whole_files.temporary(run_dir.path))
    assert call("rm", run_dir.name).code == 2 and len(list(Path("runs").glob(".*.tmp"))) == 1
    done = call("rm", run_dir.name, "--yes")
    assert done.code == 0 and f"removed: {run_dir.name}" in done.out
    assert not list(Path("runs").glob("*"))


def test_files_that_stay_are_no_removal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    monkeypatch.setattr(
        "dpaudit.storage.exclusive.remove_left", lambda path: None
    )  # as of a read-only folder
    refused = call("rm", run_dir.name, "--yes")
    assert refused.code == 2 and "files stay" in refused.err and "removed" not in refused.out


def test_a_path_to_another_folder_is_not_the_run_of_that_name(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    copy = Path("copies") / run_dir.name
    shutil.copytree(run_dir.path, copy)
    for typed in (str(copy), str(copy.absolute()), f"../{run_dir.name}"):
        refused = call("rm", typed, "--yes")
        assert refused.code == 2 and "no such run" in refused.err
        assert call("show", typed).code == 2
    assert run_dir.path.is_dir() and copy.is_dir()
    assert call("show", str(run_dir.path)).code == 0
    assert call("rm", f"{run_dir.path.absolute()}/", "--yes").code == 0 and not run_dir.path.exists()


def test_a_linked_run_is_not_said_to_be_removed(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("elsewhere"), ("train",))
    Path("runs").mkdir()
    (Path("runs") / run_dir.name).symlink_to(run_dir.path.absolute())
    refused = call("rm", run_dir.name, "--yes")
    assert refused.code == 2 and "a link to" in refused.err and "removed" not in refused.out
    assert (Path("runs") / run_dir.name).is_symlink() and run_dir.file("plan.json").is_file()


def test_links_in_a_run_are_told_because_what_they_name_stays(call: Call) -> None:
    run_dir, _ = fabricate.run(Path("runs"), ("train",))
    run_dir.file("train/sft-eps8").rename("kept")
    run_dir.file("train/sft-eps8").symlink_to(Path("kept").absolute())
    done = call("rm", run_dir.name, "--yes")
    assert done.code == 0 and "links whose targets stay" in done.out and "train/sft-eps8" in done.out
    assert Path("kept/privacy.json").is_file()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("suites/tasks/ours.yaml", "# caf\xe9\n", "expected text in UTF-8"),
        ("attacks/ours.yaml", "title: ours\n", "kind: expected the kind of the recipe, got no such key"),
    ],
)
def test_a_broken_file_of_yours_is_named(call: Call, file: str, text: str, says: str) -> None:
    Path(file).parent.mkdir(parents=True)
    Path(file).write_bytes(text.encode("latin-1"))
    refused = call("list")
    assert refused.code == 2 and f"/{file}" in refused.err and says in refused.err
