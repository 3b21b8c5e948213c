"""The docs say what is there: commands, options and targets exist, the help shown is the program's, nothing
lacks a line.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from regenerate_docs import ROOT, commands, commands_page, content_page, help_of, keys_page
from test_layers import ROOMS

from dpaudit import content
from dpaudit.data.canary import FAMILIES
from dpaudit.training.losses import LOSSES

NAMES = ("README.md", "README.zh.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "commands.md"]
PAGES = [*(ROOT / name for name in NAMES), *WRITTEN]
PROGRAMS = {"dpaudit", "make", "pip", "python", "tensorboard", "torchrun"}
OF_THE_SHELL = {"cat", "cd", "mkdir", "source", "tail"}
FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:dpaudit|make) [^`\n]+)`")


def statements(block: str) -> Iterator[str]:
    """The commands of a block of shell, one line each, without remarks and the files that are typed in."""
    lines = iter(block.splitlines())
    for line in lines:
        if remarked := re.sub(r"(^|\s+)# .*", "", line):
            yield remarked
        if typed_in := re.search(r"<<'(\w+)'", line):
            next(body for body in lines if body == typed_in[1])


def typed() -> list[str]:
    """Every command that a page tells the reader to type."""
    found: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found.update(*map(statements, FENCE.findall(text)), INLINE.findall(text))
    return sorted(found)


def test_the_pages_show_commands() -> None:
    assert {"make demo", "make test", "dpaudit train --eps 1,4,8", "dpaudit report html"} <= set(typed())


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("dpaudit ")])
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    command = ""
    while words and f"{command} {words[0]}".strip() in commands():
        command = f"{command} {words.pop(0)}".strip()
    assert command, f"no such command: {line}"
    shown = help_of(command)
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"^\s+(-\w, )?{re.escape(word.partition('=')[0])}\b", shown, re.MULTILINE), line


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in line.split()[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), line


def test_only_known_programs_are_typed() -> None:
    assert {line.split()[0] for line in typed()} == PROGRAMS | OF_THE_SHELL


def test_the_help_shown_is_the_programs() -> None:
    assert (ROOT / "docs/commands.md").read_text(encoding="utf-8") == commands_page(), "type `make docs`"
    assert (ROOT / "docs/keys.md").read_text(encoding="utf-8") == keys_page(), "type `make docs`"


def test_the_losses_shown_are_the_programs() -> None:
    assert (ROOT / "docs/content.md").read_text(encoding="utf-8") == content_page(), "type `make docs`"


def documented(heading: str) -> set[str]:
    """The names in the first column of a table of docs/content.md."""
    text = (ROOT / "docs/content.md").read_text(encoding="utf-8")
    section = next(part for part in text.split("\n## ") if part.startswith(heading))
    return set(re.findall(r"^\| `(\w[\w-]*)`", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Suites", {path.stem for path in content.shipped("suites").glob("*.yaml")}),
        ("Attack recipes", {path.stem for path in content.shipped("attacks").glob("*.yaml")}),
        ("Judges", {path.stem for path in content.shipped("judges").glob("*.yaml")}),
        ("Tasks", {path.stem for path in (content.shipped("suites") / "tasks").glob("*.yaml")}),
        ("DPO losses", set(LOSSES)),
        ("Canary families", set(FAMILIES)),
    ],
)
def test_everything_has_a_line(heading: str, names: set[str]) -> None:
    assert documented(heading) == names


def test_both_readmes_type_the_same() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in NAMES[:2])
    assert FENCE.findall(english) == FENCE.findall(chinese) != []
    assert set(INLINE.findall(english)) == set(INLINE.findall(chinese)) != set()
    assert english.count("\n## ") == chinese.count("\n## ")
    pages = [
        set(re.findall(r"\]\(((?:docs|[A-Z])[^)]+)\)", text)) - set(NAMES[:2]) for text in (english, chinese)
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [
        link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if not link.startswith("https://")
    ]
    paths = re.findall(r"`((?:tests|dpaudit|suites|attacks|judges|docs)/[\w/.-]+)`", text)
    for name in (*links, *paths):
        if not re.search(r"NAME|SLOW|dpaudit/_content", name):
            assert (page.parent / name).exists() or (ROOT / name).exists(), f"{page.name}: {name}"


ANCHOR = re.compile(r"\]\((?!https:)([^)#]*)#([^)]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_pages_meet_a_heading(page: Path) -> None:
    for name, anchor in ANCHOR.findall(page.read_text(encoding="utf-8")):
        text = (page.parent / name if name else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}, anchor


def test_architecture_has_a_row_for_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("| Room |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\|(.*?)\|", table, re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)] == list(ROOMS)
    assert "`builtin/`" in text


def test_the_version_has_a_change_log() -> None:
    import dpaudit

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{dpaudit.__version__}]" in text and "### Numbers changed" in text


@pytest.mark.parametrize("name", [*NAMES, "reports/zh.toml", "Makefile", "mkdocs.yml", "pyproject.toml"])
def test_no_merge_is_left_half_done(name: str) -> None:
    assert not re.search(r"^(?:<{7}|>{7}) ", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
