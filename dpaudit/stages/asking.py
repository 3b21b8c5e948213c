"""Asking a model that was trained elsewhere what it says of every secret of a key; no coin is known here."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dpaudit.errors import UsageError
from dpaudit.findings.verification import NotAsked
from dpaudit.planting.audit_key import AuditKey, Planted
from dpaudit.system.progress import Advance, Progress
from dpaudit.terminal import visible

if TYPE_CHECKING:
    from dpaudit.models.secret_spans import SecretScores, Text

REASON_MOST = 400  # characters: a part of it may be a template's own words


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
    tokenizer: str | None = None  # the folder whose chat template its dialogues need


@dataclass(frozen=True, eq=False)
class Answers:
    """What the audited model, and its base where one was asked, say of every secret in one rendering."""

    rendering: str
    texts: "list[Text]"
    audited: "list[SecretScores]"
    base: "list[SecretScores] | None"
    gain: float | None = None  # nats a token over the base, on ordinary rows that were asked as well


@dataclass(frozen=True, eq=False)
class Asked:
    """What was said in every rendering that could be asked, why in others nothing was, and the name of the
    base that calibrates.
    """

    answers: list[Answers]
    not_asked: tuple[NotAsked, ...]
    base: str | None


def ask(audited: Audited, key: AuditKey, progress: Progress, ordinary: Sequence[Planted] = ()) -> Asked:
    """What the model says of every secret in every rendering of the key, and of `ordinary` rows beside them.

    A rendering that the chat template or the server does not take is left out, with the reason. Raises
    UsageError where none is left, and for a model that cannot be opened.
    """
    template = _templated(audited.tokenizer) if audited.tokenizer else None
    with progress.task("verify: opening the model", total=1) as advance:
        model, base, name = _open(audited)
        advance(1)
    if template is not None and model.tokenizer is not None:
        _check_tokens(template, model.tokenizer, audited.tokenizer)
    left_out: dict[str, UsageError] = {}
    template = model.tokenizer if template is None else template
    canaries = _written(key, template, left_out)
    texts = {r: [*written, *_ordinary(ordinary, r, template)] for r, written in canaries.items()}
    is_merged = audited.model is not None and audited.endpoint is None
    total = sum(map(len, texts.values())) * (2 if base is not None or is_merged else 1)
    with progress.task("verify: scoring canaries", total=total) as advance:
        first = _scores(model, texts, left_out, advance)
        if is_merged:  # two whole models need not fit at once
            from dpaudit.models import secret_spans

            assert isinstance(model, secret_spans.LocalModel) and audited.base
            vocabulary = secret_spans.Vocabulary.of(model)
            del model
            base, name = secret_spans.open_base(audited.base, vocabulary), audited.base
        second = _scores(base, {r: texts[r] for r in first}, left_out, advance) if base else {}
    answers = [_answers(r, canaries[r], first[r], second.get(r)) for r in (second or first)]
    return Asked(answers, tuple(NotAsked(r, _reason(e)) for r, e in left_out.items()), name)


def _ordinary(rows: Sequence[Planted], rendering: str, tokenizer: Any) -> "list[Text]":
    """The texts of ordinary rows; none where the template does not take one of them."""
    from dpaudit.models.secret_spans import Unwritten, texts_of

    try:
        return texts_of(rows, rendering, tokenizer) if rows else []
    except Unwritten:
        return []


def _answers(
    rendering: str,
    texts: "list[Text]",
    audited: "list[SecretScores]",
    base: "list[SecretScores] | None",
) -> Answers:
    """The answers on canaries, which come first, and the gain on the ordinary rows behind them."""
    count = len(texts)
    if base is None:
        return Answers(rendering, texts, audited[:count], None)
    pairs = zip(audited[count:], base[count:], strict=True)
    gains = [float(a.logprob.mean() - b.logprob.mean()) for a, b in pairs]
    gain = sum(gains) / len(gains) if gains else None
    return Answers(rendering, texts, audited[:count], base[:count], gain)


def _written(key: AuditKey, tokenizer: Any, left_out: dict[str, UsageError]) -> "dict[str, list[Text]]":
    """The texts of every rendering that can be made; the others are added to `left_out`."""
    from dpaudit.models.secret_spans import Unwritten, texts_of

    if key.canaries[0].record.text is not None:  # plain text has one rendering
        return {"text": texts_of(key.canaries, "text", tokenizer)}
    texts = {}
    for rendering in key.rule.renderings:
        try:
            texts[rendering] = texts_of(key.canaries, rendering, tokenizer)
        except Unwritten as error:
            left_out[rendering] = error
    _require_one(texts, left_out)
    return texts


def _scores(
    model: Scorer, texts: "dict[str, list[Text]]", left_out: dict[str, UsageError], advance: Advance
) -> "dict[str, list[SecretScores]]":
    """The scores of every rendering that a server takes; the others are added to `left_out`."""
    from dpaudit.models.secret_spans import Declined

    scores = {}
    for rendering, written in texts.items():
        try:
            scores[rendering] = model.scores(written, advance)
        except Declined as error:
            left_out[rendering] = error
    _require_one(scores, left_out)
    return scores


def _require_one(renderings: Collection[str], left_out: dict[str, UsageError]) -> None:
    """Raises the last rendering's error where none is left."""
    if not renderings:
        raise next(reversed(left_out.values()))


def _reason(error: UsageError) -> str:
    return visible(f"expected {error.expected}, got {error.got}", REASON_MOST)


def _check_tokens(template: Any, own: Any, folder: str | None) -> None:
    """Raises UsageError for a chat template that was written for other tokens than the model's own."""
    if template.get_vocab() != own.get_vocab():
        raise UsageError(
            f"--tokenizer {folder}",
            "a tokenizer with the tokens of the model",
            "another vocabulary",
            "name the folder of the model's own tokenizer, with the chat template of its training",
        )


def _open(audited: Audited) -> tuple[Scorer, Scorer | None, str | None]:
    if (audited.adapter is not None) + (audited.endpoint is not None or audited.model is not None) != 1:
        raise UsageError(
            "dpaudit verify",
            "one of --adapter DIR, --model DIR with --base DIR, --endpoint URL",
            "no model" if audited.adapter is None else "two models",
        )
    if audited.endpoint is not None:
        from dpaudit.models.prompt_logprobs import Endpoint

        served = Endpoint(audited.endpoint, audited.model, audited.allow_egress)
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
        tokenizer = tokenizers.in_folder(folder)
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
