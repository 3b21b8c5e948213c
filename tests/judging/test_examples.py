"""Answers side by side: what may be private in them is not shown."""

import pytest

from dpaudit.data.corpus import Turn
from dpaudit.judging import examples
from dpaudit.judging.comparing import Answered

REFERENCE = "Take paracetamol 500 mg daily. Avoid alcohol."
PRIVATE = "The patient was found asleep behind the old lighthouse near Quimper on a Sunday."
SECRET = "amber-quill"


def shown(text: str, training: list[str] = [], prompt: str = "What helps?") -> examples.ShownAnswer:  # noqa: B006
    known = Answered(texts={"a": {"p": text}}, references={"p": REFERENCE})
    (example,) = examples.side_by_side({"p": (Turn("user", prompt),)}, known, [SECRET], training)
    (answer,) = example.answers
    return answer


def test_an_answer_is_shown_with_whether_it_is_right() -> None:
    answer = shown(REFERENCE, [PRIVATE])
    assert (answer.model, answer.text, answer.right, answer.withheld) == ("a", REFERENCE, True, None)
    long = shown("water " * 200)
    assert long.text is not None and len(long.text) < 610 and long.text.endswith("…") and long.right is False


def test_secrets_fields_and_training_text_are_not_shown() -> None:
    for text, why in (
        (f"The code is {SECRET.upper()}.", examples.SECRET),
        ("The phone is 555123456789.", examples.PERSONAL),
        (f"He said: {PRIVATE}", examples.TRAINED),
        ("Patient Ernesto Quiroga", examples.TRAINED),
    ):
        answer = shown(text, [PRIVATE, "Patient Ernesto Quiroga has gout."])
        assert (answer.text, answer.withheld) == (None, why)
    assert shown("A phone: 555123456789.", prompt="My phone is 555123456789.").text is not None
    assert shown(f"He said: {PRIVATE}", [PRIVATE], prompt=PRIVATE).text is not None
    assert shown(f"He said: {PRIVATE}").text is not None  # nothing to compare with: the text is public


@pytest.mark.parametrize(
    "said",
    [
        "amber quill",
        "a m b e r - q u i l l",
        "amber\u200b-qu\u00adill",
        "amber\u2011quill",
        "ａｍｂｅｒ－ｑｕｉｌｌ",
        "**amber**-_quill_",
        "amber-quil",
        "mber-quill",
    ],
)
def test_another_spelling_of_a_secret_and_a_long_part_of_it_are_not_shown(said: str) -> None:
    assert shown(f"The code is {said}, I think.").withheld == examples.SECRET
    assert shown(f"The code is {said}.", prompt=f"Is {SECRET} the code?").text is not None


def test_an_innocent_word_of_a_secret_is_shown() -> None:
    assert shown("Amber urine: drink water. A quill is a feather.").text is not None


@pytest.mark.parametrize(
    "said",
    [
        "Write to anna(at)schmidt.de.",
        "Write to anna [at] schmidt [dot] de.",
        "Write to anna at schmidt dot de.",
        "Write to **anna**@schmidt.de.",
        "Phone: 555\u2011123\u20114567",
        "Phone: ５５５-１２３-４５６７",
    ],
)
def test_another_spelling_of_a_personal_field_is_not_shown(said: str) -> None:
    assert shown(said).withheld == examples.PERSONAL
    assert shown(said, prompt=f"{said} Is that right?").text is not None


def test_a_field_that_the_prompt_holds_inside_of_a_longer_one_is_not_shown() -> None:
    assert (
        shown("Phone: 555-123-4567", prompt="My phone is 999555-123-45678888.").withheld == examples.PERSONAL
    )
    assert shown("Take it at 9 and at 12.30, dot the page.", prompt="When?").text is not None


def test_five_prompts_of_different_facts() -> None:
    prompts = {f"p{n}": (Turn("user", f"Question {n}?"),) for n in range(20)}
    known = Answered(
        facts={f"p{n}": f"f{n // 2}" for n in range(20)},
        texts={model: dict.fromkeys(prompts, REFERENCE) for model in ("base", "a")},
        references=dict.fromkeys(prompts, REFERENCE),
    )
    found = examples.side_by_side(prompts, known, [])
    assert [example.prompt for example in found] == [f"Question {n}?" for n in (0, 2, 4, 6, 8)]
    assert all([answer.model for answer in example.answers] == ["base", "a"] for example in found)
