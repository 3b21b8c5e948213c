"""Nothing that moves a cursor, turns or hides text reaches a terminal, and a reader who leaves changes no
exit code.
"""

import io
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import dpaudit
from dpaudit import cli, terminal
from dpaudit.errors import PART_MOST, UsageError
from dpaudit.page import tables
from dpaudit.system.progress import Progress
from dpaudit.terminal import visible

HOSTILE = [
    "\x1b[2J\x1b[1;31mrefuted\x1b[0m", "a\rb", "a\x00b", "a\x9b31mb", "a\x08\x08b", "\u202enot refuted\u202c",
    "\u2066a\u2069", "a\u200fb",
    "a\u200bb", "a\ufeffb", "a\u00adb", "a\u2060b", "a\u3164b", "a\U000e0041b", "a\udcffb", "a\u2028b",
    "a\u2029b", "a\x85b", "a\nb\tc", "a\u3000b",
]  # fmt: skip


def run(redirected: str, *words: str, cwd: Path) -> tuple[int, str]:
    """The exit code of `dpaudit WORDS` under a shell's redirection, and what stands on stderr."""
    environment = os.environ | {"PYTHONPATH": str(Path(dpaudit.__file__).parents[1])}
    command = ["bash", "-c", f'"$@" {redirected}', "bash", sys.executable, "-m", "dpaudit", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("text", HOSTILE)
def test_what_cannot_be_seen_is_escaped_everywhere(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = StringIO()
    progress = Progress(console=Console(file=said, width=200))
    progress.say(text)
    with progress.task(text, total=1):
        pass
    error = UsageError(text, text, text, text)
    printed = tables.as_text(
        {"caveat": text, text: text, "arms": [{"arm": text}], "recipes": [{"name": text}]}
    )
    for shown in (visible(text), str(error), *said.getvalue().splitlines(), *printed.splitlines()):
        assert shown.isprintable() and not set(shown) & terminal.BLANK_LETTERS
    terminal.echo(printed)
    assert capsys.readouterr().out == printed + "\n"


def test_a_cell_with_a_line_break_makes_no_second_row() -> None:
    rows = [{"arm": "sft-inf\nsft-eps8  8", "epsilon": "inf"}]
    assert len(tables.as_text({"arms": rows}).splitlines()) == 2


@pytest.mark.parametrize("text", ["plain", "头痛 – ε ≤ 8, 95 %", "naïve Δ", "😀"])
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_a_long_part_loses_its_middle_and_the_remedy_stays() -> None:
    error = UsageError("w" * 10**6, "e" * 10**6, "g" * 10**6 + "END", "type `do this`")
    assert len(str(error)) < 4 * PART_MOST + 100
    assert str(error).endswith("END; type `do this`") and error.got.startswith("ggg")


@pytest.mark.parametrize("text", HOSTILE)
def test_json_says_the_same_and_shows_nothing_hidden(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "latin-1"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        shown = terminal.as_json({"a": text, text: "头 😀"})
        assert json.loads(shown) == {"a": text, text: "头 😀"}
        assert all(line.isprintable() for line in shown.splitlines())
        terminal.echo(shown)


def test_a_terminal_of_another_encoding_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    terminal.echo("ε 头")
    assert written.getvalue() == b"\\u03b5 \\u5934\n"


@pytest.mark.parametrize(("words", "code"), [("attack list", 0), ("show nothing", 2), ("--help", 141)])
def test_a_reader_who_has_left_changes_no_exit_code(words: str, code: int, tmp_path: Path) -> None:
    """Typer prints its own help, and would end with 1, which is a verdict."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONPATH": str(Path(dpaudit.__file__).parents[1])}
    command = [sys.executable, "-m", "dpaudit", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == code and not list(tmp_path.glob("*.log"))


def test_a_full_disk_behind_stdout_is_one_line_and_no_code_of_pythons(tmp_path: Path) -> None:
    code, told = run("> /dev/full", "attack", "list", cwd=tmp_path)
    assert (code, told.count("\n")) == (3, 1) and "the disk: expected room" in told


@pytest.mark.parametrize(("words", "code"), [("attack list", 0), ("show nothing", 2)])
def test_streams_that_are_closed(words: str, code: int, tmp_path: Path) -> None:
    assert run(">&- 2>&-", *words.split(), cwd=tmp_path) == (code, "")


def test_work_goes_on_when_nobody_reads_stderr(tmp_path: Path) -> None:
    code = (
        "from dpaudit.system.progress import Progress\np = Progress()\nfor n in range(3):\n    p.say('x' * "
        "100000)\nopen('end', 'w')"
    )
    typed = f'"{sys.executable}" -c "$0" 2>&1 >&- | true; exit ${{PIPESTATUS[0]}}'
    environment = os.environ | {"PYTHONPATH": str(Path(dpaudit.__file__).parents[1])}
    done = subprocess.run(["bash", "-c", typed, code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0 and (tmp_path / "end").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["show"],
        ["verify", "--key"],
        ["train", "--data"],
        ["bound", "scores"],
        ["train", "--set"],
        ["verify", "--claim"],
    ],
)
def test_a_name_that_is_no_utf8_is_refused_in_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / os.fsdecode(b"a\xff.json")).write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dpaudit", *words, os.fsdecode(b"a\xff.json")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capfd.readouterr().err
    assert (ended.value.code, told.count("\n")) == (2, 1)
    assert told.startswith(r"dpaudit: a\udcff.json: expected arguments in UTF-8")
