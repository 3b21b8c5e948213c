"""The command that continues a run."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from dpaudit.commands import again
from dpaudit.commands.asked import Asked
from dpaudit.pipeline import plans


@pytest.mark.parametrize(
    ("name", "words", "seed"),
    [
        ("small", ["data.source=a file.jsonl", "training.unit=patient", "candidates.records=8"], 0),
        ("demo", [], 4),
        ("demo", ["grid.epsilons=[3, 0.5]", "evaluation.tasks=[]", "judging=null"], 1),
    ],
)
def test_the_command_that_goes_on_with_a_run_makes_the_same_plan(
    name: str, words: list[str], seed: int
) -> None:
    plan = plans.resolve(name, Asked(settings=words).overrides(), seed)
    command = again.command_of(plan, Path("elsewhere"))
    assert command is not None
    typed = shlex.split(command)
    assert typed[:4] == ["dpaudit", "train", "--suite", name] and typed[-2:] == ["--runs", "elsewhere"]
    said = dict(zip(typed[4::2], typed[5::2], strict=True))
    settings = [value for option, value in zip(typed[4::2], typed[5::2], strict=True) if option == "--set"]
    changed = Asked(data=said.get("--data"), settings=settings).overrides()
    assert plans.resolve(name, changed, int(said.get("--seed", "0"))) == plan
    assert again.command_of(replace(plan, versions={"torch": "0"})) is None
