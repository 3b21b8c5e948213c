"""The part of a tokenizer's vocabulary that secrets can use: words that are one token, and tokens that may be
sampled.
"""

from typing import Any

from dpaudit.errors import UsageError

LEAST = 2  # words: a draw needs at least two


def special_text(tokenizer: Any) -> str:
    """The special and added tokens, as a chat template writes them: no secret may be a part of one."""
    return " ".join(tokenizer.convert_ids_to_tokens(sorted(_special(tokenizer))))


def _special(tokenizer: Any) -> set[int]:
    return {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}


def token_words(tokenizer: Any) -> tuple[str, ...]:
    """Words and word pieces that are one token of their own behind a blank, by rising token id.

    Each survives a round trip: behind "a ", its text is coded as that token and nothing else. None is part of
    a special token. Raises UsageError where there are fewer than LEAST.
    """
    special, left_out = special_text(tokenizer), _special(tokenizer)
    ids = [i for i in range(len(tokenizer)) if i not in left_out]
    texts = [text.removeprefix(" ") for text in tokenizer.batch_decode([[i] for i in ids])]
    (before,) = tokenizer(["a"], add_special_tokens=False)["input_ids"]
    coded = tokenizer([f"a {text}" for text in texts], add_special_tokens=False)["input_ids"]
    words = {
        text: None
        for i, text, row in zip(ids, texts, coded, strict=True)
        if text.isalpha() and row == [*before, i] and text not in special
    }
    if len(words) < LEAST:
        raise UsageError(
            "candidates.family random_token",
            f"at least {LEAST} words that are one token of the model",
            str(len(words)),
            "take family invented, which suits any tokenizer",
        )
    return tuple(words)


def unwritable(tokenizer: Any, size: int) -> list[int]:
    """The ids below `size` that no secret may hold: special tokens, parts of characters, control characters,
    padding rows.
    """
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    special = _special(tokenizer)
    broken = [
        i
        for i, text in enumerate(texts)
        if i in special or not text or not text.isprintable() or "\ufffd" in text
    ]
    return [*broken, *range(len(texts), size)]
