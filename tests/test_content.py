"""Shipped and own content: a user's file goes before the shipped one of the same name."""

from pathlib import Path

import pytest

from dpaudit import content
from dpaudit.errors import UsageError


def test_every_shipped_folder_is_there() -> None:
    assert all(content.shipped(folder).is_dir() for folder in content.FOLDERS)
    assert "demo" in content.listing("suites")


def test_own_folder_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    own = tmp_path / "suites" / "demo.yaml"
    own.write_text("name: mine\n")
    assert content.find("suites", "demo").samefile(own)
    assert content.find("suites", "smollm2-medquad").parent == content.shipped("suites")


def test_a_shipped_file_is_found_by_its_path_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert content.find("suites", "suites/demo.yaml") == content.shipped("suites") / "demo.yaml"


@pytest.mark.parametrize("name", ["nope", "nope.yaml", "suites/nope.yaml"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"suites/nope: expected one of .*demo.*, got no such file"):
        content.find("suites", name)


def test_a_path_elsewhere_is_not_taken_for_a_shipped_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"elsewhere/demo.yaml: expected .* got no such file"):
        content.find("suites", str(tmp_path / "elsewhere" / "demo.yaml"))


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: 1\nb: [\n")
    with pytest.raises(UsageError, match=r"x\.yaml:\d+: expected valid YAML"):
        content.load_yaml(file)


def test_yaml_cannot_construct_objects(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UsageError, match="valid YAML"):
        content.load_yaml(file)


@pytest.mark.parametrize(
    ("text", "got"), [("- 1\n", "got a list"), ("", "got no value"), (b"\xff\xfe", "text in UTF-8")]
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str | bytes, got: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=got):
        content.load_yaml(file)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """PyYAML takes the last one in silence: a recipe would run with another parameter than its reader saw."""
    file = tmp_path / "twice.yaml"
    file.write_text("name: a\nparameters:\n  k: 0.1\n  k: 0.9\n")
    with pytest.raises(UsageError, match=r"twice\.yaml:4: expected valid YAML, got key 'k' twice"):
        content.load_yaml(file)
    file.write_text("first: &common {k: 1}\nsecond: {<<: *common, k: 2}\n")
    assert content.load_yaml(file)["second"] == {"k": 2}
