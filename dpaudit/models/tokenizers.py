"""Tokenizers: a base's own, and an adapter's own."""

from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.models import adapters, border, hf, hub, random_weights
from dpaudit.models.hf import place_of
from dpaudit.suite.suite import Model


def load_tokenizer(base: str) -> Any:
    """The fast tokenizer of a model, with a padding token. Raises UsageError in one line where there is none.

    Where the model names no padding token, its end token or else its first token pads: padding is masked and
    enters neither attention nor a loss, so which token it is changes no figure.
    """
    where = f"--model {base}"
    place = place_of(
        random_weights.TOKENIZER if random_weights.is_random(base) else base, weights=not hub.is_id(base)
    )
    _require_files(place, where)
    return _read_tokenizer(place, where)


def in_folder(folder: str) -> Any:
    """The tokenizer of a model, or that in any folder: an adapter's, or one of a tokenizer's files alone.
    Raises as `load_tokenizer`.
    """
    place, where = Path(folder).expanduser(), f"--model {folder}"
    if not place.is_dir():
        return load_tokenizer(folder)
    _require_files(place, where)
    return _read_tokenizer(place, where)


def _require_files(place: Path, where: str) -> None:
    if not any(place.glob("tokenizer*")):
        raise UsageError(where, "a model with a tokenizer", "a folder without tokenizer.json")


def tokenizer_of(settings: Model) -> Any:
    """The tokenizer that a suite's arms learn with: its base's, or that of the adapter that they continue
    from.
    """
    tokenizer = load_tokenizer(settings.base)
    if settings.start is None:
        return tokenizer
    inside = Path(settings.start) / "adapter"
    adapter = inside if inside.is_dir() else Path(settings.start)
    return adapters_tokenizer(adapter, tokenizer, settings.base, f"model.start {settings.start}")


def adapters_tokenizer(adapter: Path, tokenizer: Any, base: str, where: str) -> Any:
    """The tokenizer that an adapter was trained with: that in its folder, with its chat template; the base's
    `tokenizer` fills in what is missing.

    Under another template an adapter does not show what it has learned. Raises UsageError as `trained_with`,
    and for ids without a row in the base's embedding.
    """
    own = trained_with(adapter, tokenizer, base, where)
    if own is not tokenizer and own.get_vocab() != tokenizer.get_vocab():
        check_tokens(own, hf.check(base).rows, where)
    return own


def trained_with(adapter: Path, tokenizer: Any, base: str, where: str) -> Any:
    """As `adapters_tokenizer`; it may have tokens that the base's embedding has no rows for.

    Raises UsageError for a tokenizer that has the base's tokens under other ids.
    """
    if not (adapter / "tokenizer.json").is_file():
        tokenizer.chat_template = adapters.chat_template(adapter, where) or tokenizer.chat_template
        return tokenizer
    own = _read_tokenizer(adapter, where)
    words = own.get_vocab()
    if any(words.get(token) != number for token, number in tokenizer.get_vocab().items()):
        raise UsageError(
            where,
            f"a tokenizer with the tokens of its base, {base}",
            "a tokenizer with other tokens",
            "name its base, or delete the tokenizer files that are not the adapter's",
        )
    own.chat_template = own.chat_template or tokenizer.chat_template
    return own


def _read_tokenizer(place: Path, where: str) -> Any:
    import transformers

    with border.told(
        where, expected="a model with a tokenizer that can be read", remedy="copy its tokenizer files again"
    ):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(place), trust_remote_code=False, use_fast=True, local_files_only=True
        )
    if not tokenizer.is_fast:
        raise UsageError(where, "a fast tokenizer (tokenizer.json)", "a slow tokenizer")
    if len(tokenizer) == 0:
        raise UsageError(where, "a tokenizer with tokens", "an empty tokenizer")
    with border.told(
        where, expected="a tokenizer that encodes text", remedy="copy its tokenizer files again"
    ):
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        tokenizer.decode(tokenizer("a").input_ids)
    return tokenizer


def check_tokens(tokenizer: Any, rows: int, where: str) -> None:
    """Raises UsageError for a tokenizer whose highest id has no row in an embedding of `rows`."""
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise UsageError(
            where,
            f"a tokenizer whose ids have a row each in the model's embedding of {rows}",
            f"token id {highest}",
            "give the model its own tokenizer, or resize the embedding (resize_token_embeddings) and save it",
        )
