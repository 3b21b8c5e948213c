"""The plan of a suite with what was typed over it."""

from pathlib import Path

import pytest
import yaml
from typed import MINI

from dpaudit.pipeline import plans


@pytest.mark.parametrize(
    ("typed", "name", "is_told"),
    [
        ({}, "demo", True),
        ({"data.source": "my notes/Ward 3.jsonl"}, "Ward-3", False),
        ({"data.source": "d.jsonl", "name": "mine"}, "mine", False),
        ({"data.source": "d.jsonl", "description": "Of ward 3."}, "d", True),
        ({"model.base": "models/own"}, "demo", False),
    ],
)
def test_a_run_on_own_data_does_not_bear_the_demos_name(
    typed: dict[str, str], name: str, is_told: bool
) -> None:
    chosen = plans.resolve("demo", typed).suite
    assert (chosen.name, bool(chosen.description)) == (name, is_told)


def test_own_data_in_an_own_suite_keep_its_name(tmp_path: Path) -> None:
    about = {"languages": "German", "dates": "2019 to 2023"}
    own = MINI | {"data": {"source": "a.jsonl", **about}, "description": "Ward a."}
    (tmp_path / "ward.yaml").write_text(yaml.safe_dump(own))
    typed = {"data.source": "b.jsonl", "data.dates": "2024"}
    chosen = plans.resolve(str(tmp_path / "ward.yaml"), typed).suite
    assert (chosen.name, chosen.description) == ("mini", "")
    assert (chosen.data.languages, chosen.data.dates) == (None, "2024")
