"""The site: every page has its place, links are turned, and what is built asks no other host for anything."""

import html
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import browser
import pytest
import yaml
from regenerate_docs import ROOT

import dpaudit
from dpaudit import bounds

HOOK = runpy.run_path(str(ROOT / "docs/site_files.py"))
FETCHED = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*?\b(?:href|src)=\"?(?:https?:)?//[^>]*>")


class Loose(yaml.SafeLoader):
    """mkdocs.yml may name Python objects; here they are text."""


Loose.add_multi_constructor("!", lambda *_: "")
SETTINGS: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loose)


def listed(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [name for inner in (part.values() if isinstance(part, dict) else part) for name in listed(inner)]


def test_every_page_has_one_place() -> None:
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    pages += [name for name in HOOK["AT_ROOT"].values() if name.endswith(".md")]
    assert sorted(listed(SETTINGS["nav"])) == sorted(pages)
    assert [next(iter(part)) for part in SETTINGS["nav"]][1:] == [
        "Tutorial", "How-to", "Reference", "Explanation"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "link", "turned"),
    [
        ("index.md", "docs/verdict.md", "verdict.md"),
        ("index.md", "docs/howto/use-a-gpu.md", "howto/use-a-gpu.md"),
        ("index.md", "README.zh.md", "index.zh.md"),
        ("index.zh.md", "README.md", "index.md"),
        ("page.md", "verdict.md#chains", "verdict.md#chains"),
        ("content.md", "../CONTRIBUTING.md", "CONTRIBUTING.md"),
        ("howto/use-a-gpu.md", "../../README.md#install", "../index.md#install"),
        ("howto/use-a-gpu.md", "../training.md", "../training.md"),
        ("CONTRIBUTING.md", "docs/judges.md", "judges.md"),
        ("howto/coming-from.md", "../../suites/dpsgd-lora.yaml", "../suites/dpsgd-lora.yaml"),
        ("page.md", "https://arxiv.org/abs/2305.08846", "https://arxiv.org/abs/2305.08846"),
        ("page.md", "#here", "#here"),
    ],
)
def test_links_are_turned(page: str, link: str, turned: str) -> None:
    assert HOOK["relinked"](f"a [b]({link}) c", page) == f"a [b]({turned}) c"


def test_the_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: dpaudit\.([\w.]+)$", (ROOT / "docs/api.md").read_text("utf-8"), re.MULTILINE)
    calls = {
        name for name, value in vars(bounds).items() if getattr(value, "__module__", "") == bounds.__name__
    }
    public = {name for name in dpaudit.__all__ if name != "bounds"} | calls
    assert {name.rpartition(".")[2] for name in named} == public
    assert len(named) == len(public)


def test_the_worked_example_tells_what_its_page_shows() -> None:
    """Every cell that is a figure; and the page names no place on the machine that wrote it."""
    text = (ROOT / "docs/worked-example.md").read_text("utf-8").partition("## A thousand records")[0]
    page = (ROOT / "docs/worked-example-page.html").read_text("utf-8")
    shown = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", page)))
    cells = [cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]
    figures = [cell for cell in cells if re.fullmatch(r"\d of \d|0\.\d{3} \[.*\]|97\.\d %", cell)]
    assert len(figures) == 7
    for figure in figures:
        assert figure in shown, figure
    assert not re.search(r"/(home|root|tmp|work)/", page)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.mark.slow
def test_the_site_is_built_and_fetches_nothing(built: Path) -> None:
    pages = sorted(built.rglob("*.html"))
    assert {"index.html", "index.zh.html", "api.html"} <= {page.name for page in pages}
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page
    for style in built.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style
    reference = (built / "api.html").read_text(encoding="utf-8")
    assert "many_runs" in reference and "Clopper" in reference and ":::" not in reference


@pytest.mark.slow
@pytest.mark.skipif(browser.BROWSER is None, reason="no browser here")
def test_a_page_opened_as_a_file_can_be_searched(built: Path, tmp_path: Path) -> None:
    """With every host unreachable; `?q=` is what was typed into the field."""
    words = [*browser.HEADLESS, f"--user-data-dir={tmp_path}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    page = f"{(built / 'numbers.html').as_uri()}?q=halved"
    command = [str(browser.BROWSER), *words, "--virtual-time-budget=20000", "--dump-dom", page]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "epsilon lower bound" in shown
    assert re.search(r"[1-9]\d* matching documents?<", shown)
