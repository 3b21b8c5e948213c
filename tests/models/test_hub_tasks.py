"""Tasks of lm-eval's own: a name that nobody knows, and items that a hub has which does not answer."""

import time
from pathlib import Path

import pytest

from dpaudit import content
from dpaudit.errors import PartialError, UsageError
from dpaudit.models import harness, hub

OURS = sorted(content.listing("suites/tasks"))


class Manager:
    """Where lm-eval's list of tasks would take seconds to read."""

    all_tasks = ("medqa_4options", "pubmedqa", "hellaswag")

    def load(self, _: list[str]) -> dict:
        raise ConnectionError("Couldn't reach it\nin two lines")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("medqa", "medqa_us_file"), ("pubmedqa_fil", "pubmedqa_file"), ("cmexam", "cmexam_file")],
)
def test_an_unknown_name_is_told_the_tasks_here_that_are_like_it(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match="an unknown name") as caught:
        harness._check_known(Manager(), [name], OURS)
    near = str(caught.value).partition("names like it: ")[2]
    assert meant in near and (name != "medqa" or "medqa_4options" in near)


def test_a_hub_that_does_not_answer_is_one_line_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(PartialError) as caught:
        harness._load_known(Manager(), "pubmedqa", tmp_path, OURS)
    assert time.monotonic() - started < 3 * hub.WAITED
    told = str(caught.value)
    assert told.startswith("pubmedqa: its items come from a hub, and http://127.0.0.1:9 does not answer")
    assert "--task pubmedqa_file=FILE" in told and "\n" not in told and caught.value.exit_code == 3
    assert capfd.readouterr().err == ""
