import json
import time
from pathlib import Path

import pytest

from dpaudit.data import clinic, pii

DATA = Path(__file__).parents[3] / "shared" / "data"
SAID = [
    ("Call 586-555-0115, please.", [("phone", "586-555-0115")]),
    ("Reach me at (586) 555-0115 or +1 586 555 0116.", [("phone", "(586) 555-0115"), ("phone",
    "+1 586 555 0116")]),
    ("The phone is 555123456789.", [("phone", "555123456789")]),
    ("电话是555123456789。", [("phone", "555123456789")]),
    ("手机13812345678，", [("phone", "13812345678")]),
    ("身份证99999919970713286X手机12841870333。", [("national_id", "99999919970713286X"), ("phone",
    "12841870333")]),
    ("SSN 924-42-6431", [("national_id", "924-42-6431")]),
    ("The record number is 000004711.", [("record_number", "000004711")]),
    ("The record number of Ann Lee is 4711.", [("record_number", "4711")]),
    ("MRN6320309", [("record_number", "6320309")]),
    ("病历号是000004711。", [("record_number", "000004711")]),
    ("Write to a.b+c@mail.example.com.", [("email", "a.b+c@mail.example.com")]),
    ("born 1950-01-02, record 000000012", [("date_of_birth", "1950-01-02"), ("record_number", "000000012")]),
    ("1950-01-02出生", [("date_of_birth", "1950-01-02")]),
    ("Her date of birth is October 15, 1954.", [("date_of_birth", "October 15, 1954")]),
    ("Seen on 1954-10-15; take 500 mg, 120 over 80, at 10:30.", []),
    ("What is the record number of Ann Lee?", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), SAID)
def test_fields_are_found_by_their_form(text: str, wanted: list[tuple[str, str]]) -> None:
    assert [(field.kind, text[field.start : field.stop]) for field in pii.find(text)] == wanted


def test_only_the_kinds_asked_for_are_found() -> None:
    text = "Call 586-555-0115 or write to a@example.com."
    assert [field.kind for field in pii.find(text, ["email"])] == ["email"]


def test_what_stands_before_a_field_gives_it_however_it_is_punctuated() -> None:
    text = "My phone is (586) 555-0115. You said 586-555-0115 and 586-555-0116."
    first, second, third = pii.find(text)
    assert [pii.is_given(text, field) for field in (first, second, third)] == [False, True, False]


def test_long_texts_of_one_letter_take_no_time() -> None:
    begin = time.process_time()
    for piece in ("a", "1", "1-", "record ", "phone of ", "born ", "a.", "1 "):
        pii.find(piece * (50_000 // len(piece)))
    assert time.process_time() - begin < 5  # quadratic patterns would take minutes


def test_facts_of_the_synthetic_clinic_are_found() -> None:
    people = [clinic.patient(0, index) for index in range(400)]
    told = [
        (p, turn.text)
        for p in people
        for r in clinic.told(p)[0]
        for turn in r.turns
        if turn.role == "assistant"
    ]
    wanted = [v for p, text in told for v in (p.phone, p.record_number) if v in text]
    found = [text[f.start : f.stop] for _, text in told for f in pii.find(text)]
    assert found == wanted and len(wanted) > 20


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_field_of_invented_people_is_found(language: str) -> None:
    said = {
        "phone": "{}",
        "email": "{}",
        "national_id": "{}",
        "record_number": "{}",
        "date_of_birth": "born {}",
    }
    keys = {"record_number": "mrn", "date_of_birth": "dob"}
    for line in (DATA / f"pii_synthetic_{language}_dev.jsonl").read_text().splitlines():
        person = json.loads(line)
        for kind, form in said.items():
            text = form.format(person[keys.get(kind, kind)])
            (field,) = pii.find(text)
            assert field.kind == kind and text.endswith(text[field.start : field.stop])


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize("name", ["dialogue_meqsum_en_dev", "dialogue_primock57_en_dev"])
def test_real_dialogues_without_names_hold_none(name: str) -> None:
    assert pii.find((DATA / f"{name}.jsonl").read_text()) == []
