"""Asking a model that was trained elsewhere what it says of every secret of a key; no coin is known here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dpaudit.errors import UsageError
from dpaudit.planting.audit_key import AuditKey
from dpaudit.system.progress import Advance, Progress

if TYPE_CHECKING:
    from dpaudit.models.secret_spans import SecretScores, Text


class Scorer(Protocol):
    """A model that gives a text's log-probabilities."""

    tokenizer: Any

    def scores(self, texts: "Sequence[Text]", advance: Advance | None = None) -> "list[SecretScores]": ...


@dataclass(frozen=True)
class Audited:
    """What is audited: an adapter, a whole model with its base, or a served model (`model` and `base` are its
    names there).
    """

    adapter: Path | None = None
    model: str | None = None
    endpoint: str | None = None
    base: str | None = None
    allow_egress: tuple[str, ...] = ()
    tokenizer: str | None = None  # for an endpoint: the folder whose chat template its dialogues need


@dataclass(frozen=True, eq=False)
class Answers:
    """What the audited model, and its base where one was asked, say of every secret in one rendering."""

    rendering: str
    texts: "list[Text]"
    audited: "list[SecretScores]"
    base: "list[SecretScores] | None"


def ask(audited: Audited, key: AuditKey, progress: Progress) -> tuple[list[Answers], str | None]:
    """What the model says in every rendering that can be made, and the name of the base that calibrates."""
    with progress.task("verify: opening the model", total=1) as advance:
        model, base, name = _open(audited)
        advance(1)
    renderings = {r: texts for r in key.rule.renderings if (texts := _texts(key, r, model))}
    same = "text" if key.canaries[0].record.text is not None else None
    if same:  # plain text has one rendering
        renderings = {same: next(iter(renderings.values()))}
    is_merged = audited.model is not None and audited.endpoint is None
    total = sum(map(len, renderings.values())) * (2 if base is not None or is_merged else 1)
    with progress.task("verify: scoring canaries", total=total) as advance:
        first = {r: model.scores(texts, advance) for r, texts in renderings.items()}
        if is_merged:  # two whole models need not fit at once
            from dpaudit.models import secret_spans

            assert isinstance(model, secret_spans.LocalModel) and audited.base
            tokenizer = model.tokenizer
            del model
            base, name = secret_spans.open_base(audited.base, tokenizer), audited.base
        second = {r: base.scores(texts, advance) for r, texts in renderings.items()} if base else {}
    return [Answers(r, texts, first[r], second.get(r)) for r, texts in renderings.items()], name


def _texts(key: AuditKey, rendering: str, model: Scorer) -> "list[Text] | None":
    from dpaudit.models.secret_spans import texts_of

    return texts_of(key.canaries, rendering, model.tokenizer)


def _open(audited: Audited) -> tuple[Scorer, Scorer | None, str | None]:
    if (audited.adapter is not None) + (audited.endpoint is not None or audited.model is not None) != 1:
        raise UsageError(
            "dpaudit verify",
            "one of --adapter DIR, --model DIR with --base DIR, --endpoint URL",
            "no model" if audited.adapter is None else "two models",
        )
    if audited.tokenizer is not None and audited.endpoint is None:
        raise UsageError(
            "--tokenizer", "this option beside --endpoint", "a model on this machine, with its own tokenizer"
        )
    if audited.endpoint is not None:
        from dpaudit.models.prompt_logprobs import Endpoint

        served = Endpoint(audited.endpoint, audited.model, audited.allow_egress)
        served.tokenizer = _templated(audited.tokenizer) if audited.tokenizer else None
        return served, served.beside(audited.base) if audited.base else None, audited.base
    from dpaudit.models import hub, secret_spans

    hub.fetch(audited.base, "--base")
    hub.fetch(audited.model, "--model")
    if audited.adapter is not None:
        return secret_spans.open_adapter(audited.adapter, audited.base)
    if audited.base is None:
        raise UsageError(
            "--base",
            "the model that was fine-tuned, for a merged model",
            "no base",
            "without it what was learned cannot be told from what was known; add --base DIR",
        )
    secret_spans.check_folder(audited.base, "--base")
    return secret_spans.open_whole(str(audited.model)), None, None


def _templated(folder: str) -> Any:
    """The tokenizer of a folder. Raises UsageError where it has no chat template, its only
    purpose.
    """
    from dpaudit.models import hub, tokenizers

    hub.fetch(folder, "--tokenizer", weights=False)
    try:
        tokenizer = tokenizers.load_tokenizer(folder)
    except UsageError as error:
        raise UsageError(f"--tokenizer {folder}", error.expected, error.got, error.remedy) from None
    if tokenizer.chat_template is None:
        raise UsageError(
            f"--tokenizer {folder}",
            "a tokenizer with a chat template",
            "a tokenizer without a template",
            "leave the option out",
        )
    return tokenizer
