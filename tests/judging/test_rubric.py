"""Rubrics: strict reading, strict verdicts, and faults that are faults."""

import re
from dataclasses import asdict

import pytest

from dpaudit import content
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.judging import rubric
from dpaudit.judging.rubric import FAULTS, TWINS, Control, Controls

ENGLISH = (
    "Take amoxicillin 500 mg three times a day. Avoid alcohol while you take it.",
    "Use ibuprofen 200 mg after meals; you should not drive afterwards.",
    "Metformin 850 mg is taken with dinner. It is safe for most patients.",
    "Start lisinopril 10 mg in the morning and never stop it on your own.",
)
CHINESE = (
    "请服用阿莫西林胶囊500毫克，每日三次，服药期间避免饮酒。",
    "建议使用头孢克肟颗粒50毫克，饭后服用，不宜开车。",
    "可以服用美托洛尔25毫克，早晨服用，不能自行停药。",
)


def records(answers: tuple[str, ...]) -> list[Record]:
    return [
        Record(f"r{n}", (Turn("user", f"Question number {n}?"), Turn("assistant", answer)))
        for n, answer in enumerate(answers)
    ]


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


@pytest.mark.parametrize("answers", [ENGLISH, CHINESE])
@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_changes_every_right_answer(kind: str, answers: tuple[str, ...]) -> None:
    made = rubric.plant(records(answers), Controls(faults=(kind,), twins=()))
    assert len(made) == len(answers)
    for control in made:
        assert control.kind == kind
        assert control.right in answers
        assert control.wrong != control.right
        assert control.turns[-1].role == "user"


def test_faults_do_what_their_names_say() -> None:
    right = ENGLISH[0]
    assert "ibuprofen" in (rubric.wrong_drug("?", right, ENGLISH[1:]) or "").lower()
    assert "amoxicillin" not in (rubric.wrong_drug("?", right, ENGLISH[1:]) or "")
    assert rubric.swapped_dose("?", right, ENGLISH[1:]) == right.replace("500", "200")
    assert rubric.swapped_dose("?", right, ()) == right.replace("500", "5000")
    assert rubric.negated_warning("?", right, ()) == right.replace("Avoid alcohol", "freely use alcohol")
    assert rubric.negated_warning("?", ENGLISH[1], ()) == ENGLISH[1].replace("should not", "should")
    assert rubric.negated_warning("?", CHINESE[0], ()) == CHINESE[0].replace("避免", "可以多用")
    assert rubric.negated_warning("?", CHINESE[2], ()) == CHINESE[2].replace("不能", "能")
    assert right.startswith(rubric.cut_short("?", right, ()) or "no") and not re.search(
        r"\.$", rubric.cut_short("?", right, ()) or "."
    )


def test_a_fault_without_hold_is_left_out_and_not_faked() -> None:
    assert rubric.swapped_dose("?", "Rest well.", ()) is None
    assert rubric.cut_short("?", "Rest well.", ()) is None
    assert rubric.wrong_drug("?", "Rest.", ("Sleep.",)) is None
    assert rubric.negated_warning("?", "Rest well", ()) is None
    made = rubric.plant(records(("Rest well.", "Sleep well.")), Controls())
    assert {control.kind for control in made} == {"identical twin", "padded twin"}


def test_controls_stop_at_their_count() -> None:
    made = rubric.plant(records(ENGLISH), Controls(count=2))
    assert {kind: sum(c.kind == kind for c in made) for kind in (*FAULTS, *TWINS)} == dict.fromkeys(
        (*FAULTS, *TWINS), 2
    )


def test_twins_are_made_from_each_right_answer_once() -> None:
    turns = (Turn("user", "What?"),)
    planted = [Control(kind, turns, "The right one.", "wrong") for kind in FAULTS]
    identical, padded = rubric.twins_of(planted, Controls())
    assert identical.wrong == identical.right == "The right one."
    assert padded.wrong.startswith("The right one. ") and len(padded.wrong) > 60
