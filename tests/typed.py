"""What is typed in tests of the command line, and what comes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MINI: dict[str, Any] = {
    "name": "mini",
    "model": {"max_length": 200},
    "data": {"source": "builtin:clinic", "patients": 150, "heldout": 12},
    "candidates": {"canaries": 100, "records": 20, "extraction": 4, "extraction_repetitions": 2},
    "training": {
        "clip": 0.1,
        "private": {"batch": 32, "steps": 2, "learning_rate": 0.01},
        "nonprivate": {"batch": 16, "steps": 2, "learning_rate": 0.01},
        "lora": {"rank": 2, "alpha": 4},
    },
    "grid": {"epsilons": [8]},
    "attacks": ["mia"],
    "evaluation": {"tasks": [{"name": "clinic_choice", "data": "builtin:clinic"}], "limit": 10},
    "judging": None,
}


CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


def one_line(done: Outcome, *wanted: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr with every part, and no run left behind."""
    assert done.code == 2, done
    assert done.out == "" and done.err.count("\n") == 1, done.err
    assert done.err.startswith("dpaudit: ")
    for part in wanted:
        assert part in done.err
    assert not Path("runs").exists()


def last(err: str) -> str:
    """The last line: what comes before it is the progress of the reading."""
    *before, line = err.splitlines()
    assert all(text.endswith("...") for text in before)
    return line + "\n"


def dialogue(number: int, **more: str) -> str:
    turns = [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": f"a {number}"}]
    return json.dumps({"messages": turns, **more}) + "\n"
