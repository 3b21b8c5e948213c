"""The synthetic clinic: two kinds of content, disjoint worlds, and questions that can be answered."""

from collections import Counter

import pytest

from dpaudit.data import clinic, lexicon
from dpaudit.data.corpus import Corpus


@pytest.fixture(scope="module")
def world() -> Corpus:
    return clinic.world(seed=0, patients=4000, heldout=100)


def test_conditions_differ_and_half_of_them_are_house() -> None:
    conditions = lexicon.conditions()
    for field in ("name", "name_zh", "drug"):
        assert len({getattr(c, field) for c in conditions}) == len(conditions)
    assert sum(c.house for c in conditions) == len(conditions) // 2


def test_every_house_fact_is_shared_by_at_least_twenty_patients() -> None:
    conditions = Counter(clinic.patient(0, i).condition.name for i in range(4000))
    assert min(conditions[c.name] for c in lexicon.conditions() if c.house) >= 20


def test_patients_have_one_to_five_dialogues_in_two_languages(world: Corpus) -> None:
    counts = Counter(record.patient for record in world.records)
    assert set(counts.values()) == {1, 2, 3, 4, 5}
    chinese = sum(any("一" <= ch <= "鿿" for ch in r.turns[0].text) for r in world.records)
    assert 0.1 < chinese / len(world.records) < 0.3


def test_facts_of_one_patient_occur_for_no_other(world: Corpus) -> None:
    patients = [clinic.patient(0, i) for i in range(4000)]
    for field in ("id", "record_number", "phone"):
        assert len({getattr(p, field) for p in patients}) == len(patients)
    text = " ".join(turn.text for r in world.records for turn in r.turns)
    assert any(p.phone in text for p in patients[:200])
    assert any(p.record_number in text for p in patients[:200])
    assert any(p.born in text for p in patients[:200])


def test_disjoint_seeds_give_disjoint_worlds(world: Corpus) -> None:
    other = clinic.world(seed=1, patients=4000, heldout=100)
    assert not {r.patient for r in world.records} & {r.patient for r in other.records}
    numbers = [{clinic.patient(seed, i).record_number for i in range(4000)} for seed in (0, 1)]
    assert not numbers[0] & numbers[1]


def test_a_world_is_the_same_for_the_same_seed_and_grows_at_its_end(world: Corpus) -> None:
    small = clinic.world(seed=0, patients=10, heldout=0)
    assert small.records == world.records[: len(small.records)]


def test_held_out_patients_are_nobody_of_the_training_part(world: Corpus) -> None:
    assert not {r.patient for r in world.heldout} & {r.patient for r in world.records}


def test_pairs_set_the_right_answer_against_every_kind_of_fault() -> None:
    condition = next(c for c in lexicon.conditions() if c.house)
    import random

    for chinese in (False, True):
        for wording in (0, 1, 2):
            right = clinic.treatment_answer(condition, chinese, wording)
            wrong = [
                clinic.faulty_answer(condition, f, chinese, random.Random(0), wording) for f in clinic.FAULTS
            ]
            assert len({right, *wrong}) == 1 + len(clinic.FAULTS)


def test_judge_controls_have_every_fault_in_every_wording_an_answer_may_have() -> None:
    controls = clinic.judge_controls(seed=0, count=40)
    assert Counter(c["kind"] for c in controls) == dict.fromkeys(clinic.CONTROL_FAULTS, 40)
    by_name = {c.name: c for c in lexicon.conditions()}
    wordings = {
        (chinese, wording)
        for control in controls
        for chinese in (False, True)
        for wording in clinic.WORDINGS
        if control["right"] == clinic.treatment_answer(by_name[control["fact"]], chinese, wording)
    }
    assert len(wordings) == 2 * len(clinic.WORDINGS)
    assert all(control["wrong"] != control["right"] for control in controls)


def test_choices_are_many_unambiguous_and_balanced() -> None:
    items = clinic.choices()
    assert len(items) >= 300 and len({i["form"] for i in items}) >= 6
    assert len({i["id"] for i in items}) == len(items)
    assert all(len(set(i["choices"])) == 4 for i in items)
    share = Counter(i["answer"] for i in items)
    assert all(0.15 < n / len(items) < 0.35 for n in share.values())


def test_a_patient_outside_the_numbered_worlds_is_refused() -> None:
    with pytest.raises(ValueError, match="seed below"):
        clinic.patient(1000, 0)
