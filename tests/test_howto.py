"""The how-to pages work by copy and paste, each from an empty folder. What trains is typed by the slow test,
what takes a second by the other.
"""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_docs
import yaml
from regenerate_docs import ROOT
from test_docs import FENCE, statements
from typed import Call

HOWTO = sorted((ROOT / "docs/howto").glob("*.md"))
PAGES = [*HOWTO, ROOT / "docs/tutorial.md"]
QUICK = ("plant", "bound", "attack list", "list", "scorecard", "init")
AFTER_DEMO = {"read-the-page", "tutorial"}
TYPED_IN = re.compile(r"^cat > (\S+) <<'EOF'\n(.*?)^EOF$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    return FENCE.findall(page.read_text(encoding="utf-8"))


def codes(block: str) -> set[int]:
    """The exit codes that the page says the block may end with; 0 where it says nothing."""
    said = re.search(r"# exit code (\d)(?: or (\d))?$", block, re.MULTILINE)
    return {int(code) for code in said.groups() if code} if said else {0}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_takes_a_second(page: Path, call: Call, tmp_path: Path) -> None:
    count = 0
    for block in blocks(page):
        for name, text in TYPED_IN.findall(block):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text, encoding="utf-8")
        for line in statements(block):
            if line == "python rows.py":
                runpy.run_path("rows.py")
            elif line.removeprefix("dpaudit ").startswith(QUICK):
                done = call(*shlex.split(line)[1:])
                assert done.code == 0, f"{line}: {done.err}"
                count += 1
    assert count or page.stem in {"use-a-gpu", "read-the-page", "continuous-integration"}


def test_the_workflow_fails_on_a_refuted_claim() -> None:
    """Its commands exist and let their exit code through; it checks the very suite that the page types."""
    text = (ROOT / "docs/howto/continuous-integration.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[-1])
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    typed = [step["run"] for step in steps if step["run"].startswith("dpaudit ")]
    assert typed[0] == "dpaudit run claims.yaml --check" and typed[-1].startswith("dpaudit verify ")
    for line in typed:
        test_docs.test_commands_and_options_exist(line)
    assert not any("continue-on-error" in step or "||" in step["run"] for step in steps)
    assert [step["run"].split()[1] for step in steps if "if" in step] == ["report", "report"]
    assert "claims.yaml" in dict(TYPED_IN.findall(text))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `dpaudit` and `python` are those of the tests."""
    here = tmp_path_factory.mktemp("bin")
    for name, words in (("dpaudit", "-m dpaudit"), ("python", "")):
        (here / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        (here / name).chmod(0o755)
    return os.environ | {"PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def pasted(block: str, folder: Path, environment: dict[str, str]) -> None:
    shell = ["bash", "-e", "-c", block]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in codes(block), f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, commands: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    pasted("dpaudit demo", folder, commands)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page(
    page: Path, tmp_path: Path, commands: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if page.stem in AFTER_DEMO:  # the demo is made once; typed again, it is up to date
        shutil.copytree(request.getfixturevalue("demo") / "runs", tmp_path / "runs")
    for block in blocks(page):
        if not block.startswith("make "):
            pasted(block, tmp_path, commands | {"HOME": str(tmp_path)})
