"""Tasks of lm-eval's own: a name that nobody knows, and items that a hub has which does not answer."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpaudit import content
from dpaudit.errors import PartialError, UsageError
from dpaudit.models import harness, hub, known_tasks

OURS = sorted(content.listing("suites/tasks"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("medqa", "medqa_us_file"), ("pubmedqa_fil", "pubmedqa_file"), ("cmexam", "cmexam_file")],
)
def test_an_unknown_name_is_told_the_tasks_here_that_are_like_it(name: str, meant: str) -> None:
    told = str(known_tasks.unknown(name, OURS, ["medqa_4options", "pubmedqa", "hellaswag"]))
    near = told.partition("an unknown name; see `lm-eval ls tasks`; names like it: ")[2]
    assert meant in near and (name != "medqa" or "medqa_4options" in near)


def test_a_known_name_is_found_without_lm_eval() -> None:
    """Which takes seconds of the processor to list its own tasks."""
    script = (
        "import sys; from dpaudit.models import known_tasks; print(known_tasks.file_of('medqa_4options'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; print('lm_eval' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    file, is_loaded = done.stdout.splitlines()
    assert Path(file).parts[-3:] == ("tasks", "medqa", "medqa.yaml") and is_loaded == "False"


@pytest.mark.slow
def test_the_names_found_are_those_that_lm_eval_lists_each_in_the_same_file() -> None:
    index = known_tasks._own_index()
    theirs = {name: one.yaml_path for name, one in index.items() if one.kind.name in ("TASK", "PY_TASK")}
    assert len(theirs) > 10_000 and known_tasks.files() == theirs
    for name, told in {
        "mmlu": "got a group of 57; name its tasks, such as mmlu_abstract_algebra",
        "ai2_arc": "got a group of 2; name its tasks, such as arc_challenge, arc_easy",
        "medqa_4option": "an unknown name; .*like it: medqa_4options",
    }.items():
        with pytest.raises(UsageError, match=told):
            known_tasks.file_of(name, OURS)


def test_a_hub_that_does_not_answer_is_one_line_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before training the way out is a file in the suite."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # nothing is fetched here, whatever was typed
    for is_training_next, way in (
        (False, "--task pubmedqa_file=FILE"),
        (True, "{name: pubmedqa_file, data:"),
    ):
        started = time.monotonic()
        with pytest.raises(PartialError) as caught:
            harness.load_tasks({"pubmedqa": None}, {}, tmp_path, {}, OURS, is_training_next)
        assert time.monotonic() - started < 3 * hub.WAITED
        told = str(caught.value)
        assert told.startswith("pubmedqa: its items come from a hub, and http://127.0.0.1:9 does not answer")
        assert way in told and "\n" not in told and caught.value.exit_code == 3
    assert capfd.readouterr().err == ""
