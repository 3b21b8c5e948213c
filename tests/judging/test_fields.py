"""Drugs, doses, warnings and numbers of free answers."""

import pytest

from dpaudit.judging.fields import FIELDS, Match, doses, drugs, match, numbers, warnings


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.5 g, or 1,000 mg; 500毫克", {(500.0, "mg"), (1000.0, "mg")}),
        ("10 mg/kg and 5-10 ml", {(10.0, "mg/kg"), (10.0, "ml")}),
        ("２０µg，3片，每次5毫升", {(0.02, "mg"), (3.0, "tablet"), (5.0, "ml")}),
        ("3 days, 120/80 mmHg, 5 germs, 4 months", set()),
        ("1" * 50_000, set()),
    ],
)
def test_doses(text: str, wanted: set[tuple[float, str]]) -> None:
    assert doses(text) == wanted


def test_numbers() -> None:
    assert numbers("1,200 steps, 7.5 % and 7.5, 每日３次") == {(1200, ""), (7.5, "%"), (7.5, ""), (3, "")}


def test_drugs() -> None:
    assert drugs("Amoxicillin, not Aspirin; your cholesterol in April") == {"amoxicillin", "aspirin"}
    assert drugs("建议服用阿莫西林、二甲双胍，注射胰岛素") == {"阿莫西林", "二甲双胍", "胰岛素"}
    assert drugs("有美托洛尔，或者沙坦类") == {"美托洛尔", "沙坦"}
    assert drugs("Take Velo daily", ["velo"]) == {"velo"}
    assert drugs("多喝水，好好休息") == frozenset()


def test_warnings() -> None:
    assert warnings("Rest. Do not drink alcohol! Drink water.") == ({"drink", "alcohol"},)
    assert warnings("避免饮酒。多休息。") == ({"饮酒"},)


def test_a_paraphrase_matches_and_each_planted_fault_does_not() -> None:
    right = "Take Velotine 50 mg daily. Avoid grapefruit."
    for said in (right, "Daily 0.05 g of velotine; never combine it with grapefruit."):
        found = match(said, right)
        assert [found[name].agreement for name in ("drug", "dose", "warning")] == [1.0] * 3
    planted = {
        "drug": right.replace("Velotine", "Morazole"),
        "dose": right.replace("50", "70"),
        "warning": right.replace("Avoid", "Take it with"),
        "number": right.replace("50", "70"),
    }
    assert set(planted) == set(FIELDS)
    for name, said in planted.items():
        assert match(said, right)[name].agreement == 0.0


def test_a_second_dose_beside_the_right_one_does_not_pass() -> None:
    found = match("Velotine 50 mg or 500 mg", "Velotine 50 mg")["dose"]
    assert found == Match(wanted=1, found=1, other=1) and found.agreement == pytest.approx(2 / 3)
    assert match("Rest.", "Drink water.")["dose"].agreement is None
