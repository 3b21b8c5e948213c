"""Rubrics: strict reading."""

from dataclasses import asdict

import pytest

from dpaudit import content
from dpaudit.errors import UsageError
from dpaudit.judging import rubric
from dpaudit.judging.rubric import FAULTS, TWINS

LOCAL = "kind: model\nmodel: m\nprompt: '{question} {first} {second}'"
MET = "kind: model\nmodel: m\nprompt: '{question} {answer} {criterion}'"


@pytest.mark.parametrize("name", sorted(content.listing("judges")))
def test_every_shipped_rubric_is_read_and_named_as_its_file(name: str) -> None:
    found = rubric.load(name)
    assert found.name == name
    assert found.title and found.description
    assert set(found.controls.faults) == set(FAULTS)
    assert set(found.controls.twins) == set(TWINS)
    offered = [label for label in asdict(found.labels).values() if label]
    if found.kind != "likelihood":
        assert (
            set(offered) == {"[[met]]", "[[not met]]"}
            if found.criteria
            else {"[[A]]", "[[B]]"} < set(offered)
        )
        assert all(label in found.prompt for label in offered)
        assert found.prompt.count("{tag}") == 6
    if found.criteria:
        assert min(one.points for one in found.criteria) < 0 < found.tie_margin < 1


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
        (f"{LOCAL}\nverdict: vote", "mine.yaml: verdict: expected one of text, choice, logprobs"),
        (
            f"{LOCAL}\nverdict: choice",
            "mine.yaml: verdict: expected text or logprobs for kind model, got choice",
        ),
        ("kind: likelihood\nmodel: m\nverdict: logprobs", "verdict: expected text for kind likelihood"),
        (f"{LOCAL}\nmax_new_tokens: 0", "mine.yaml: max_new_tokens: expected at least 1"),
        (f"{LOCAL}\ncriteria: [{{criterion: Right., points: 1}}]", "prompt: expected a text with {answer}"),
        (
            f"{MET}\ncriteria: [{{criterion: Wrong., points: -3}}]",
            "criteria: expected one with points above 0",
        ),
        (
            f"{MET}\ncriteria: [{{criterion: Right., points: 0}}]",
            "criteria[0].points: expected a number above",
        ),
        (
            f"{MET}\ncriteria: [{{criterion: Right., points: .inf}}]",
            "criteria[0].points: expected a number above",
        ),
        (f"{MET}\ncriteria: [{{criterion: ' ', points: 1}}]", "criteria[0].criterion: expected a text"),
        (f"{MET}\ncriteria: [{{criterion: Right.}}]", "criteria[0].points: expected a value"),
        (f"{MET}\ncriteria: {{Right.: 1}}", "criteria: expected a list"),
        (f"{MET}\ncriteria: [{{criterion: Right., points: 1}}]", "swap: expected false beside criteria"),
        (
            f"{MET}\ncriteria: [{{criterion: Right., points: 1}}, {{criterion: Right., points: 2}}]",
            "criteria: expected different texts",
        ),
        (
            f"{MET}\ncriteria: [{{criterion: Right., points: 1}}]\nlabels: {{first: yes, second: no}}",
            "labels",
        ),
        (
            "kind: likelihood\nmodel: m\ncriteria: [{criterion: Right., points: 1}]",
            "criteria: expected none for kind likelihood",
        ),
    ],
)
def test_a_rubric_that_does_not_fit_is_told_in_one_line(tmp_path, text: str, complaint: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\ntitle: Mine\n{text}\n")
    with pytest.raises(UsageError) as caught:
        rubric.load(str(file))
    told = getattr(caught.value, "errors", (caught.value,))
    assert complaint in str(caught.value)
    assert all(str(mistake).isprintable() and "mine.yaml" in str(mistake) for mistake in told)
