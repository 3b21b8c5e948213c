"""Answers in rendered dialogues: templates of many families over dialogues that mislead a search."""

import re
from dataclasses import replace
from typing import Any

import chat_templates
import pytest
from chat_templates import ENDS, FAMILIES, STRIPS, TRIMS

from dpaudit.data.corpus import Record, Turn
from dpaudit.models import dialogue as dialogues
from dpaudit.models import templates
from dpaudit.models.dialogue import FOLDED, render, write
from dpaudit.models.encode import encode, encode_record
from dpaudit.models.marking import REASONING, TRIMMED, Marking
from dpaudit.models.templates import Refused, Template

ROLES = {"s": "system", "u": "user", "a": "assistant"}
EMOJI = "\U0001f600"


def turns(*said: str) -> tuple[Turn, ...]:
    """`u:Why?` is a turn of the user."""
    return tuple(Turn(ROLES[text[0]], text[2:]) for text in said)  # type: ignore[arg-type]


DIALOGUES = {
    "one": turns("u:Why?", "a:Rest."),
    "equal answers": turns("u:Why?", "a:Yes.", "u:And now?", "a:Yes.", "u:So?", "a:Yes."),
    "answers equal to questions": turns("u:Yes.", "a:Yes.", "u:Yes.", "a:Yes."),
    "the template's own words": turns("u:user", "a:assistant", "u:<|end|>", "a:model"),
    "system": turns("s:You are a nurse.", "u:Why?", "a:Rest.", "u:And?", "a:Sleep."),
    "chinese": turns("u:头疼两天了？", "a:多喝水。", "u:还有呢？", f"a:多喝水。{EMOJI}"),
    "white space": turns("u: Why?\n", "a:\n Rest. \n", "u:  And?", "a:\n\nSleep.  "),
    "empty answers": turns("u:Why?", "a:", "u:And?", "a: "),
    "tags": turns("u:<b>Why?</b>", "a:<b>x</b> <br> 1<2", "u:<result>4</result>", "a:<b>so</b>"),
    "reasoning": turns(
        "u:Why?", "a:<think>\nfirst\n</think>\n\nRest.", "u:And?", "a:<think>\nthen\n</think>\n\nSleep."
    ),
    "tight reasoning": turns("u:Why?", "a:<think>first</think>Rest.", "u:And?", "a:<think></think>Sleep."),
    "reasoning that the prompt opened": turns(
        "u:Why?", "a:first</think>Rest.", "u:And?", "a:then</think>\nSleep."
    ),
}


@pytest.fixture(scope="module")
def toy(toy_model_dir: Any) -> Any:
    """A tokenizer of its own, whose template the tests exchange."""
    from dpaudit.models import tokenizers

    return tokenizers.load_tokenizer(str(toy_model_dir))


def squeezed(text: str) -> str:
    return "".join(text.split())


def expected(family: str, dialogue: tuple[Turn, ...]) -> list[str]:
    """What should be learned of each answer, without white space: its text, but for reasoning that the family
    strips.
    """
    answers = [turn.text for turn in dialogue if turn.role == "assistant"]
    for place, answer in enumerate(answers):
        if family in STRIPS and (family == "reasoner" or place < len(answers) - 1):
            answers[place] = answer.split("</think>")[-1]
    return [squeezed(answer) + ENDS[family] for answer in answers]


def learned(tokenizer: Any, dialogue: tuple[Turn, ...]) -> list[str]:
    """The runs of tokens that are learned, as text."""
    coded = encode(dialogue, tokenizer, 2000)
    runs: list[list[int]] = [[]]
    for token, flag in zip(coded.input_ids, coded.answer_mask, strict=True):
        if flag:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [str(tokenizer.decode(run)) for run in runs if run]


@pytest.mark.parametrize("name", DIALOGUES)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learned_is_the_answers_and_their_ends(toy: Any, family: str, name: str) -> None:
    toy.chat_template, dialogue = FAMILIES[family], DIALOGUES[name]
    written = write(dialogue, toy)
    found = [squeezed(written.text[begin:end]) for begin, end in written.answers]
    if family == "ended":
        found[-1] = found[-1].removesuffix("<|endoftext|>")
    assert found == expected(family, dialogue)
    assert written.text == render(dialogue, toy)
    own = [written.text[begin:end] for begin, end in written.contents]
    if family not in (*STRIPS, *TRIMS):
        assert own == [turn.text for turn in dialogue if turn.role == "assistant"]
    for begin, end in written.others:
        assert not any(begin < stop and end > start for start, stop in written.answers)
    # the white space of a template may be of one token with an answer's; the answer is learned whole and once
    runs = [squeezed(run) for run in learned(toy, dialogue)]
    assert "".join(runs).removesuffix("<|endoftext|>") == "".join(expected(family, dialogue))


@pytest.mark.parametrize("family", FAMILIES)
def test_as_transformers_writes_it(toy: Any, family: str) -> None:
    """The slow double, but for the day."""
    toy.chat_template = FAMILIES[family]
    for dialogue in (DIALOGUES["one"], DIALOGUES["reasoning"], DIALOGUES["white space"]):
        for prompt in (False, True):
            messages = [{"role": turn.role, "content": turn.text} for turn in dialogue]
            theirs = toy.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            ours = render(dialogue, toy, prompt=prompt)
            day = re.compile(r"Today: .*")
            assert day.sub("", ours) == day.sub("", theirs)


def test_what_a_template_changes_is_told(toy: Any) -> None:
    def notes(family: str, name: str) -> set[str]:
        toy.chat_template = FAMILIES[family]
        return set(write(DIALOGUES[name], toy).notes)

    assert notes("plain", "white space") == notes("plain", "reasoning") == set()
    assert notes("strict", "white space") == {TRIMMED}
    assert notes("reasoner", "reasoning") == {REASONING}
    assert notes("strict", "system") == notes("brackets", "system") == {FOLDED}
    assert notes("dated", "system") == set()


def test_white_space_that_a_template_leaves_is_learned(toy: Any) -> None:
    toy.chat_template = chat_templates.THINKING
    written = write(DIALOGUES["white space"], toy)
    assert [written.text[a:b] for a, b in written.answers] == ["\n Rest. \n<|end|>", "Sleep.  <|end|>"]


def test_reasoning_is_learned_with_its_tags_where_it_stays(toy: Any) -> None:
    toy.chat_template = chat_templates.THINKING
    written = write(DIALOGUES["tight reasoning"][:1] + turns("a:<think>so</think>Rest."), toy)
    [(begin, end)] = written.answers
    assert written.text[begin:end] == "<think>\nso\n</think>\n\nRest.<|end|>"
    # an empty block of the template's own is not the assistant's
    [(begin, end)] = write(DIALOGUES["one"], toy).answers
    assert write(DIALOGUES["one"], toy).text[begin:end] == "Rest.<|end|>"


def test_system_text_stands_before_the_first_question_where_there_is_no_place_for_it(toy: Any) -> None:
    for family in ("strict", "brackets"):
        toy.chat_template = FAMILIES[family]
        for prompt in (DIALOGUES["system"][:2], DIALOGUES["system"][:4]):
            assert "You are a nurse.\n\nWhy?" in render(prompt, toy, prompt=True)
    toy.chat_template = (
        "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    written = write(DIALOGUES["system"], toy)  # dropped without a word
    assert "You are a nurse." in written.text and written.notes == {FOLDED}


@pytest.mark.parametrize("said", [("a:Hello.", "u:Why?", "a:Rest."), ("a:Hello.",)])
def test_dialogues_that_the_assistant_opens(toy: Any, said: tuple[str, ...]) -> None:
    toy.chat_template = chat_templates.PLAIN
    answers = [f"{text[2:]}<|end|>" for text in said if text[0] == "a"]
    assert learned(toy, turns(*said)) == answers
    toy.chat_template = chat_templates.STRICT
    with pytest.raises(Refused, match="its error Conversation roles must alternate"):
        encode(turns(*said), toy, 200)
    toy.chat_template = None
    assert [run.removesuffix(toy.eos_token) for run in learned(toy, turns(*said))] == [
        text[2:] for text in said if text[0] == "a"
    ]


UNFIT = {
    "leaves an answer out": "{% for m in messages %}{% if loop.last or m.role == 'user' %}[{{ m.role }}]{{ "
    "m.content }}{% endif %}{% endfor %}",
    "leaves a question out": "{% for m in messages[1:] %}[{{ m.role }}]{{ m.content }}{% endfor %}",
    "writes answers twice": "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' "
    "%}|{{ m.content }}{% endif %}{% endfor %}",
    "writes them in capitals": "{% for m in messages %}[{{ m.role }}]{{ m.content | upper }}{% endfor %}",
    "cuts them": "{% for m in messages %}[{{ m.role }}]{{ m.content[-3:] }}{% endfor %}",
    "turns the order round": "{% for m in messages | reverse %}[{{ m.role }}]{{ m.content }}{% endfor %}",
    "looks at the words": "{% for m in messages %}[{{ m.role }}{{ m.content | length }}]{{ m.content }}{% "
    "endfor %}",
    "generates something else": "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% generation %}x{% "
    "endgeneration %}{% endfor %}",
}


@pytest.mark.parametrize("how", UNFIT)
def test_a_dialogue_that_cannot_be_masked_is_refused(toy: Any, how: str) -> None:
    toy.chat_template = UNFIT[how]
    with pytest.raises(Refused) as found:
        encode(turns("u:ab", "a:answer", "u:cde", "a:Sleep well."), toy, 200)
    assert not any(word in str(found.value) for word in ("answer one", "cde", "Sleep"))


def test_a_token_of_a_question_and_its_answer_is_refused(toy: Any) -> None:
    toy.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert len(toy("at", add_special_tokens=False)["input_ids"]) == 1
    with pytest.raises(Refused, match="a token that belongs to both"):
        encode(turns("u:throa", "a:t"), toy, 200)
    assert learned(toy, turns("u:thro", "a:at")) == ["at"]


def test_characters_of_private_use_are_no_marks(toy: Any) -> None:
    toy.chat_template = chat_templates.PLAIN
    said = f"u:{chr(0xF0000)}", f"a:{chr(0xF0001)} and {chr(0xF0002)}"
    assert learned(toy, turns(*said)) == [f"{said[1][2:]}<|end|>"]
    with pytest.raises(Refused, match="private-use characters of both planes"):
        encode(turns(*said, f"u:{chr(0x100000)}", "a:x"), toy, 200)


def test_both_answers_of_a_pair(toy: Any) -> None:
    pair = Record("p", DIALOGUES["equal answers"][:3], None, "<think>hm</think>Yes.", "Yes.")
    for family, chosen in (
        ("thinking", "<think>\nhm\n</think>\n\nYes.<|end|>"),
        ("strict", "<think>hm</think>Yes.<turn_end>"),
    ):
        toy.chat_template = FAMILIES[family]
        first, second = encode_record(pair, toy, 500)
        for coded, wanted in ((first, chosen), (second, f"Yes.{ENDS[family]}")):
            kept = [t for t, flag in zip(coded.input_ids, coded.answer_mask, strict=True) if flag]
            assert toy.decode(kept).strip() == wanted


def test_an_answer_before_a_last_question_ends_as_any_other(toy: Any) -> None:
    for family in ("plain", "thinking", "dated", "marked"):
        toy.chat_template = FAMILIES[family]
        written = write(DIALOGUES["equal answers"][:3], toy)
        assert [written.text[a:b] for a, b in written.answers] == [f"Yes.{ENDS[family]}"]


def test_what_is_cut_of_an_answer_is_counted(toy: Any) -> None:
    toy.chat_template = chat_templates.PLAIN
    whole = encode(DIALOGUES["one"], toy, 200)
    cut = encode(DIALOGUES["one"], toy, len(whole.input_ids) - 2)
    assert (whole.lost, cut.lost) == (0, 2)
    assert sum(cut.answer_mask) == sum(whole.answer_mask) - 2
    pair = Record("p", DIALOGUES["one"][:1], None, "Take water.", "Take nothing.")
    for whole, cut in zip(
        encode_record(pair, toy, 200), encode_record(pair, toy, 200, pair_answer=3), strict=True
    ):
        assert cut.lost == sum(whole.answer_mask) - 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_finds_what_marks_find_by_one_rendering(
    toy: Any, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.chat_template = FAMILIES[family]
    template = templates.of_tokenizer(toy)
    assert template is not None
    for said in DIALOGUES.values():
        found = write(said, toy)
        marked = Marking(template, dialogues._messages(template, said)).written()
        assert replace(found, notes=found.notes - {FOLDED}) == marked
    rendered: list[int] = []
    once = Template.write
    monkeypatch.setattr(Template, "write", lambda *given, **way: rendered.append(1) or once(*given, **way))
    write(turns("u:And why?", "a:Sleep.", "u:Why?", "a:Sleep.", "u:Sleep.", "a:No."), toy)
    assert len(rendered) == (2 if family == "marked" else 1)  # it says itself what is generated: no frame


def test_a_template_that_reads_its_texts_is_located_by_marks(toy: Any) -> None:
    """It moves a question with a certain word behind the answer, where no frame has it."""
    toy.chat_template = (
        "{% set m = messages %}{% if 'late' in m[0].content %}A:{{ m[1].content }};Q:{{ m[0].content }};"
        "{% else %}Q:{{ m[0].content }};A:{{ m[1].content }};{% endif %}"
    )
    early = write(turns("u:Why?", "a:Rest."), toy)
    assert [early.text[a:b] for a, b in early.contents] == ["Rest."]
    with pytest.raises(Refused):
        write(turns("u:Why so late?", "a:Rest."), toy)
