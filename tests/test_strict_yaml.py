"""YAML of any kind, in a file or typed, is read as it was meant or refused in one line, at once."""

import random
import time
from pathlib import Path
from typing import Any

import fuzzing
import pytest
import yaml

from dpaudit import content, strict_yaml
from dpaudit.errors import UsageError
from dpaudit.judging import rubric
from dpaudit.signals import recipe
from dpaudit.suite import loading

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 20)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "x0: &x0 [1]\n" + "".join(f"x{n + 1}: &x{n + 1} [*x{n}]\n" for n in range(900))
REFUSED = [
    ("a: !!bool abc", "an invalid value"),
    ("a: !!int x", "an invalid value"),
    ("a: !!timestamp x", "an invalid value"),
    ("a: !!timestamp 2026-01-01", "a: expected text, .* got a date"),
    ("a: !!binary aGk=", "got bytes"),
    ("a: !!binary é", "valid YAML"),
    ("a: !!set {b}", "got a set"),
    ("a: !!omap [b: 1]", "got a pair"),
    ("a: !!python/object:x.Y {}", "valid YAML"),
    ("a: !function x.y", "valid YAML"),
    ("a: .nan", "got NaN"),
    (f"a: {10**30}", "below 2"),
    (f"a: 0x{'f' * 5000}", "below 2"),
    (f"a: {'9' * 5000}", "an invalid value"),
    ("1: a", "keys of text, got 1"),
    ("null: a", "keys of text, got None"),
    ("[b]: a", "valid YAML"),
    ("a: 1\na: 2", "'a' twice"),
    ("a: 1\n'a': 2", "'a' twice"),
    ("a:\n\tb: 1", "valid YAML"),
    ("a: \x01", "valid YAML"),
    ('a: "\\0"', "a: expected text"),
    ('a: "\\ud800"', "a: expected text"),
    ('"\\0": a', "expected text"),
    ("a: 1\n---\nb: 2", "valid YAML"),
    ("a: *b", "valid YAML"),
    ("a: &a [*a]", "levels"),
    ("[" * 60000, "levels"),
    ("a: " * 40000, "valid YAML|levels"),
    ("{a: " * 30000, "levels"),
    ("- " * 60000, "levels"),
    (BOMB, "values"),
    (CHAIN, "levels"),
    ("a: [" + "1," * 20000 + "]", "values"),
    ("x: " + "y" * 200_000, "at most 128 KiB"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED)
def test_what_no_configuration_means_is_one_line_at_once(text: str, told: str) -> None:
    started = time.process_time()
    with pytest.raises(UsageError, match=told):
        strict_yaml.parse(text, "a.yaml")
    assert time.process_time() - started < 5


def test_merges_of_merges_do_not_multiply() -> None:
    assert strict_yaml.parse(MERGES, "a.yaml")["i"] == {"x": 1}
    text = "b: &b {x: 1, y: 2}\nc: &c {<<: *b, x: 3}\nd: {<<: *c, y: 4}"
    assert strict_yaml.parse(text, "a.yaml")["d"] == {"x": 3, "y": 4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),
        ("1:30", "1:30"),
        ("0:30.5", "0:30.5"),
        ("2026-01-01", "2026-01-01"),
        ("0", 0),
        ("-7", -7),
        ("1_000", 1000),
        ("0x1f", 31),
        ("1.5", 1.5),
        (".inf", float("inf")),
        ("1e-5", "1e-5"),
        ("no", False),
        ("~", None),
        ("'1'", "1"),
        ("", None),
        ("[1, a]", [1, "a"]),
    ],
)
def test_values_are_what_their_writer_meant(text: str, value: object) -> None:
    """YAML 1.1 makes 8 of 010, 90 of 1:30 and a date of the next."""
    found = strict_yaml.parse(text, "--set a")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "got no value"),
        (b"\xef\xbb\xbf", "got no value"),
        ("a: 1".encode("utf-16"), "UTF-8"),
        (b"a: \xff", "UTF-8"),
        ("a: 你好".encode("gbk"), "UTF-8"),
        (b"[1]", "got a list"),
        (b"x", "got a text"),
        (b"y" * 10**6, "128 KiB"),
    ],
)
def test_a_file_that_is_no_configuration(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(data)
    with pytest.raises(UsageError, match=told):
        content.load_yaml(tmp_path / "a.yaml")


def test_a_mark_of_utf8_is_no_part_of_the_first_key_and_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert content.load_yaml(tmp_path / "a.yaml") == {"a": 1}
    with pytest.raises(UsageError, match="got a folder"):
        content.load_yaml(tmp_path)


def test_a_file_of_gigabytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(UsageError, match="128 KiB"):
        content.load_yaml(tmp_path / "a.yaml")


def test_every_shipped_file_is_read_as_pyyaml_reads_it() -> None:
    files = [file for folder in content.FOLDERS for file in content.shipped(folder).rglob("*.yaml")]
    assert len(files) > 20
    for file in files:
        assert content.load_yaml(file) == yaml.safe_load(file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    ("folder", "load"), [("suites", loading.load), ("attacks", recipe.load), ("judges", rubric.load)]
)
def test_any_mutation_of_a_shipped_file_is_read_or_one_line(
    folder: str, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    files = sorted(content.shipped(folder).glob("*.yaml"))
    read = 0
    for seed in range(80):
        draw = random.Random(seed)
        file = draw.choice(files)
        data = file.read_bytes()
        if seed % 2:
            data = yaml.safe_dump(fuzzing.mutated(yaml.safe_load(data), draw), allow_unicode=True).encode(
                "utf-8", "surrogatepass"
            )
        else:
            data = fuzzing.mutated_bytes(data, draw)
        (tmp_path / folder / file.name).write_bytes(data)
        try:
            load(file.stem)
        except UsageError as error:
            assert all(str(mistake).isprintable() for mistake in getattr(error, "errors", (error,))), (
                seed,
                str(error),
            )
            continue
        read += 1
    assert 5 < read < 75


def test_any_typed_setting_is_read_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--dry-run` goes as far as the noise of every arm. Printed text is cleaned, so that words cannot hold
    what a shell cannot pass.
    """
    monkeypatch.chdir(tmp_path)
    demo = content.load_yaml(content.find("suites", "demo"))
    keys = [key for key in _dotted(demo) if not key.startswith("description")]
    small = [
        "data.patients=150",
        "data.heldout=12",
        "candidates.canaries=100",
        "candidates.extraction=4",
        "training.private.batch=32",
        "grid.epsilons=[]",
        "attacks=[mia]",
    ]
    for seed in range(40):
        draw = random.Random(seed)
        key, value = draw.choice(keys), draw.choice(fuzzing.VALUES)
        typed = draw.choice(
            [
                draw.choice(fuzzing.PIECES).decode("utf-8", "replace").replace("\0", ""),
                yaml.safe_dump(value).encode("utf-8", "replace").decode(),
            ]
        )
        words = [
            "train",
            "--dry-run",
            "--no-measure",
            *(word for one in (*small, f"{key}={typed}") for word in ("--set", one)),
        ]
        fuzzing.check(fuzzing.outcome(words, monkeypatch, capfd), (seed, key, typed))
        assert not Path("runs").exists()


def _dotted(value: dict[str, Any], before: str = "") -> list[str]:
    found = []
    for key, inner in value.items():
        found.append(f"{before}{key}")
        if isinstance(inner, dict):
            found += _dotted(inner, f"{before}{key}.")
    return found
