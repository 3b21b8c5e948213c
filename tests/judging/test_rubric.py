"""Rubrics: strict reading."""

from dataclasses import asdict

import pytest

from dpaudit import content
from dpaudit.errors import UsageError
from dpaudit.judging import rubric
from dpaudit.judging.rubric import FAULTS, TWINS


@pytest.mark.parametrize("name", sorted(content.listing("judges")))
def test_every_shipped_rubric_is_read_and_named_as_its_file(name: str) -> None:
    found = rubric.load(name)
    assert found.name == name
    assert found.title and found.description
    assert set(found.controls.faults) == set(FAULTS)
    assert set(found.controls.twins) == set(TWINS)
    offered = [label for label in asdict(found.labels).values() if label]
    if found.kind != "likelihood":
        assert {"[[A]]", "[[B]]"} < set(offered)
        assert all(label in found.prompt for label in offered)
        assert found.prompt.count("{tag}") == 6


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: likelihood\nmodel: m\nthresh: 1", "thresh: expected one of"),
        ("kind: poll\nmodel: m", "kind: expected one of likelihood, model, endpoint"),
        ("kind: likelihood", "mine.yaml: model: expected a model"),
        ("kind: model\nmodel: m\nprompt: '{question} {first}'", "{second}"),
        ("kind: endpoint\nmodel: m\nprompt: '{question} {first} {second}'", "mine.yaml: base_url: expected"),
        ("kind: likelihood\nmodel: m\ncontrols: {faults: [wrong dose]}", "controls.faults: expected some of"),
        (
            "kind: likelihood\nmodel: m\ncontrols: {minimum: 90}",
            "controls.minimum: expected a number between 0 and 1, got 90",
        ),
        ("kind: likelihood\nmodel: m\ncontrols: {count: 12}", "controls.count: expected at least 40"),
    ],
)
def test_a_rubric_that_does_not_fit_is_told_in_one_line(tmp_path, text: str, complaint: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\ntitle: Mine\n{text}\n")
    with pytest.raises(UsageError) as caught:
        rubric.load(str(file))
    assert complaint in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
