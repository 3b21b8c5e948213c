"""Sequences: what counts in a dialogue, a pair and plain text, and the origin's prompt template."""

from typing import Any

import pytest

from dpaudit.data.canary import Canary
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models.encode import encode, encode_record, encode_text, prompt_ids, render
from dpaudit.models.spaces import encoded_secret

TURNS = (
    Turn("system", "Be brief."),
    Turn("user", "What?"),
    Turn("assistant", "Rest."),
    Turn("user", "And?"),
    Turn("assistant", "Sleep."),
)


@pytest.fixture(scope="module")
def tokenizer(toy_model_dir: Any) -> Any:
    from dpaudit.models import tokenizers

    return tokenizers.load_tokenizer(str(toy_model_dir))


def counted(tokenizer: Any, coded: Any) -> str:
    kept = [token for token, flag in zip(coded.input_ids, coded.answer_mask, strict=True) if flag]
    return str(tokenizer.decode(kept))


@pytest.fixture
def plain(toy_model_dir: Any) -> Any:
    """A tokenizer of its own without a chat template."""
    from dpaudit.models import tokenizers

    found = tokenizers.load_tokenizer(str(toy_model_dir))
    found.chat_template = None
    return found


def test_the_origins_template_where_the_tokenizer_has_none(plain: Any) -> None:
    end = plain.eos_token
    assert render(TURNS[:3], plain) == f"###System: Be brief.\n###Question: What?\n###Answer: Rest.{end}\n"
    assert render(TURNS[:2], plain, prompt=True) == "###System: Be brief.\n###Question: What?\n###Answer: "
    whole, opened = encode(TURNS[:3], plain, 200), prompt_ids(TURNS[:2], plain)
    assert list(whole.input_ids[: len(opened)]) == opened
    assert counted(plain, whole) == f"Rest.{end}"


def test_every_answer_of_a_dialogue_counts_and_nothing_else(tokenizer: Any) -> None:
    assert counted(tokenizer, encode(TURNS, tokenizer, 200)) == "Rest.<|end|>Sleep.<|end|>"


def test_every_token_of_a_text_counts_but_the_first(tokenizer: Any) -> None:
    text = "头 sore throat since Monday."
    coded = encode_text(text, tokenizer, 200)
    assert tokenizer.decode(coded.input_ids) == text + tokenizer.eos_token
    assert coded.answer_mask == (False, *(True,) * (len(coded.input_ids) - 1))
    assert (coded.truncated, coded.answer_bytes) == (False, len(text.encode()))
    cut = encode_text(text, tokenizer, 5)
    assert (cut.truncated, len(cut.input_ids), len(cut.answer_mask)) == (True, 5, 5)
    assert cut.answer_bytes < len(text.encode())


def test_a_record_is_encoded_by_what_it_is(tokenizer: Any) -> None:
    pair = Record("p", TURNS[:2], None, "good", "bad")
    assert [counted(tokenizer, s) for s in encode_record(pair, tokenizer, 200)] == [
        "good<|end|>",
        "bad<|end|>",
    ]
    assert encode_record(Record("t", (), text="x y"), tokenizer, 200) == (encode_text("x y", tokenizer, 200),)
    assert encode_record(Record("r", TURNS), tokenizer, 200) == (encode(TURNS, tokenizer, 200),)


def test_the_secret_in_a_canarys_plain_text(tokenizer: Any) -> None:
    turns = (Turn("user", "What is the record number of Ann Smith?"), Turn("assistant", "90210"))
    found = Canary("mia0", (Record("mia0/0", turns, "mia0"),), "90210", tuple("0123456789"), 5, "", "mia")
    coded = encoded_secret(found, tokenizer, 200, plain=True)
    kept = [token for token, flag in zip(coded.input_ids, coded.secret_mask, strict=True) if flag]
    assert tokenizer.decode(kept).strip() == "90210"
    assert tokenizer.decode(coded.input_ids) == f"{found.text.text}{tokenizer.eos_token}"
    with pytest.raises(UsageError, match="expected room for the secret of canary mia0"):
        encoded_secret(found, tokenizer, 8, plain=True)


def test_a_pair_keeps_the_end_of_its_prompt_and_the_start_of_its_answers(tokenizer: Any) -> None:
    pair = Record(
        "p",
        (Turn("user", "My head hurts since Monday. What should I take?"),),
        None,
        "Take 500 mg of paracetamol every six hours.",
        "Do not take anything at all for three days.",
    )
    whole = encode_record(pair, tokenizer, 200)
    cut = encode_record(pair, tokenizer, 200, pair_prompt=5, pair_answer=3)
    for before, after in zip(whole, cut, strict=True):
        place = before.answer_mask.index(True)
        assert after.input_ids == before.input_ids[place - 5 : place + 3]
        assert after.answer_mask == (False,) * 5 + (True,) * 3
        assert after.truncated and not before.truncated
    assert encode_record(pair, tokenizer, 200, pair_prompt=500, pair_answer=500) == whole
