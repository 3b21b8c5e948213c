"""The archives: a wheel built through the sdist holds what git tracks and nothing else, and works
elsewhere.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dpaudit import content

ROOT = Path(__file__).parents[1]
IN_GIT = (ROOT / ".git").exists()
pytestmark = pytest.mark.skipif(not IN_GIT, reason="what git tracks is known in a checkout only")


def tracked(*places: str) -> set[str]:
    """Paths that git tracks below `places` and that are there."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *places]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as a repository of its own, with untracked junk in every content folder and the
    package.
    """
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked("."):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", "-C", str(copy), *command], check=True, capture_output=True)
    for folder in (*content.FOLDERS, "dpaudit", "dpaudit/builtin"):
        (copy / folder / "junk.yaml").write_text("name: junk\n")
    return copy


@pytest.fixture(scope="module")
def archives(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def test_the_sdist_holds_what_git_tracks(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO"} == tracked(".")


def test_the_wheel_holds_what_git_tracks(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"dpaudit/_content/{name}" for name in tracked(*content.FOLDERS)} | tracked("dpaudit")
    assert names == wanted
    assert any(name.startswith("dpaudit/_content/suites/tasks/") for name in names)
    assert "dpaudit/py.typed" in names  # else type checkers take our findings for untyped


def test_a_wheel_made_without_sdist_holds_the_same(
    checkout: Path, archives: tuple[Path, Path], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(checkout),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as direct, zipfile.ZipFile(archives[1]) as through:
        assert direct.namelist() == through.namelist()


def test_the_licence_goes_along(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as archive:
        licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


CONFORMANCE = """
import json, sys
from pathlib import Path
import dpaudit
from dpaudit import content
from dpaudit.judging import rubric
from dpaudit.signals import recipe
from dpaudit.suite import loading
from dpaudit.suite.plan import Plan
assert Path(dpaudit.__file__).is_relative_to(sys.argv[1]), dpaudit.__file__
for name in content.listing("suites"):
    plan = Plan(loading.load(name))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))).suite.grid == plan.suite.grid
for name in content.listing("judges"):
    assert rubric.load(name).name == name
for found in recipe.load_all("mia"):
    found.make_signal()
assert (content.shipped("reports") / "page.html.j2").is_file()
files = {folder: sorted(content.listing(folder)) for folder in content.FOLDERS}
tasks = sorted(p.name for p in (content.shipped("suites") / "tasks").iterdir())
print(json.dumps({"files": files, "tasks": tasks}))
"""


@pytest.fixture(scope="module")
def installed(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel; its dependencies are those of this environment."""
    place = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        str(place),
        str(archives[1]),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return place


def elsewhere(installed: Path, folder: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_content_loads_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    found = json.loads(elsewhere(installed, tmp_path, "-c", CONFORMANCE, str(installed)))
    for folder in content.FOLDERS:
        here = {
            Path(name).stem for name in tracked(folder) if name.count("/") == 1 and name.endswith(".yaml")
        }
        assert set(found["files"][folder]) == here
    assert set(found["tasks"]) == {Path(name).name for name in tracked("suites/tasks")}


def test_the_commands_work_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert elsewhere(installed, tmp_path, "-m", "dpaudit.cli", "--help").startswith("Usage: dpaudit")
    assert "calibrated" in elsewhere(installed, tmp_path, "-m", "dpaudit.cli", "attack", "list")
    assert (installed / "bin" / "dpaudit").is_file()


@pytest.mark.slow
def test_the_lab_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Stages train, attack and report on the embedded model, in a folder that knows nothing of the
    repository.
    """
    small = ["candidates.canaries=100", "candidates.records=50", "candidates.extraction=4",
        "data.patients=300",
        "training.private.steps=2",
             "training.private.batch=32", "training.nonprivate.steps=2", "training.nonprivate.batch=16",
             "evaluation.limit=20", "grid.dpo=[]", "judging.prompts=4"]  # fmt: skip
    settings = [word for setting in small for word in ("--set", setting)]
    elsewhere(installed, tmp_path, "-m", "dpaudit.cli", "run", "demo", "--eps", "8", *settings)
    assert list(tmp_path.glob("runs/demo-*/report/index.html"))
