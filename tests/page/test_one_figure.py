"""One more figure of a finding is one edit of its dataclass and one of the template."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import dpaudit

ROOT = Path(dpaudit.__file__).parent.parent
FIELD = "    by_repetitions: tuple[SampledOfLevel, ...]\n"
HEAD = "<h3>After many attempts</h3>\n"
REPORT = """
import sys, fabricate
from pathlib import Path
from dpaudit.stages import report
from dpaudit.system.progress import Progress
run_dir, plan = fabricate.run(Path(sys.argv[1]), ("train", "extraction"))
report.run(run_dir, plan, Progress(quiet=True))
print(run_dir.file("report"))
"""


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, file
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_figure_is_one_edit_of_a_dataclass_and_one_of_the_template(tmp_path: Path) -> None:
    for folder in ("dpaudit", "reports", "attacks", "suites", "judges"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).parent.parent / "fabricate.py", tmp_path)
    edited(tmp_path / "dpaudit/findings/extraction.py", FIELD, f"{FIELD}    budget: int = 4321\n")
    number = "<p>{{ num('/discoverable/0/budget', 'count') }} attempts</p>\n"
    edited(tmp_path / "reports/page/extraction.html.j2", HEAD, HEAD + number)
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(tmp_path / "runs")],
        env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.strip())
    assert (
        json.loads((written / "report.json").read_text(encoding="utf-8"))["discoverable"][0]["budget"] == 4321
    )
    page = (written / "index.html").read_text(encoding="utf-8")
    assert 'data-key="/discoverable/0/budget" data-style="count">4,321</data> attempts' in page
