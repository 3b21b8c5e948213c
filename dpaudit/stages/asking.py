"""Asking a model that was trained elsewhere what it says of every secret of a key; no coin is known here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dpaudit.errors import UsageError
from dpaudit.findings.counted import many
from dpaudit.findings.verification import NotAsked
from dpaudit.planting.audit_key import AuditKey, Planted
from dpaudit.stages.audited import Audited, require
from dpaudit.stages.verify_kept import Kept, Said, Scores, plain_of, scores_of
from dpaudit.storage.answer_log import NEW, AnswerLog
from dpaudit.system.progress import Advance, Progress
from dpaudit.terminal import visible

if TYPE_CHECKING:
    from dpaudit.models.secret_spans import SecretScores, Text

CANARIES, ORDINARY = "canaries", "ordinary"  # the rows that a model is asked of
Place = tuple[str, str]  # which of them, and the rendering
PIECE = 32  # texts that are asked and kept together
REASON_MOST = 400  # characters: a part of it may be a template's own words


class Scorer(Protocol):
    """A model that gives a text's log-probabilities."""

    tokenizer: Any

    def scores(self, texts: "Sequence[Text]", advance: Advance | None = None) -> "list[SecretScores]": ...


@dataclass(frozen=True, eq=False)
class Answers:
    """What the audited model, and its base where one was asked, say of every secret in one rendering; of a
    pair, of the chosen secret before the rejected one.
    """

    rendering: str
    secrets: tuple[str, ...]
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


def ask(
    audited: Audited,
    key: AuditKey,
    progress: Progress,
    ordinary: Sequence[Planted] = (),
    kept: Kept | None = None,
) -> Asked:
    """What the model says of every secret in every rendering of the key, and of `ordinary` rows beside them.

    What `kept` holds is not asked again, and what is asked is kept. A rendering that the chat template or the
    server does not take is left out, with the reason. Raises UsageError where none is left, and for a model
    that cannot be opened.
    """
    require(audited)
    rows = {CANARIES: key.canaries} | ({ORDINARY: tuple(ordinary)} if ordinary else {})
    store = kept.of(audited, key.rule.renderings) if kept else None
    known = {name: found for name, asked in rows.items() if store and (found := store.read(name, asked))}
    if known:
        progress.say(f"{audited.name}: scores of {_spoken(known)} are kept, and not asked again")
    missing = {name: asked for name, asked in rows.items() if name not in known}
    log = store.begun() if store and missing else None
    said = known | (_said(audited, key.rule.renderings, missing, log, progress) if missing else {})
    if store and missing:
        store.require_unchanged()
        for name, asked in missing.items():
            store.write(name, asked, said[name])
        store.end()
    answers = _answers(key, said[CANARIES], said.get(ORDINARY))
    return Asked(answers, said[CANARIES].not_asked, audited.base_name())


def _spoken(known: Iterable[str]) -> str:
    named = {CANARIES: "the texts with a coin", ORDINARY: "ordinary rows"}
    return " and ".join(named[name] for name in known)


def _answers(key: AuditKey, said: Said, ordinary: Said | None) -> list[Answers]:
    secrets = tuple(secret for canary in key.canaries for secret in _secrets(canary))
    return [
        Answers(
            rendering, secrets, audited, base, _gain(ordinary.scores.get(rendering) if ordinary else None)
        )
        for rendering, (audited, base) in said.scores.items()
    ]


def _secrets(canary: Planted) -> tuple[str, ...]:
    return (canary.secret,) if canary.rejected is None else (canary.secret, canary.rejected)


def _gain(scores: Scores | None) -> float | None:
    """The mean gain of rows over the base; None where they were not asked, or there is no base."""
    if scores is None or scores[1] is None:
        return None
    pairs = zip(scores[0], scores[1], strict=True)
    gains = [float(audited.logprob.mean() - base.logprob.mean()) for audited, base in pairs]
    return sum(gains) / len(gains)


def _said(
    audited: Audited,
    renderings: Sequence[str],
    rows: Mapping[str, Sequence[Planted]],
    log: AnswerLog | None,
    progress: Progress,
) -> dict[str, Said]:
    """What the model says of rows, by their name: each is asked by itself, so that no number depends on what
    else is asked. What `log` holds of a call that was stopped is not asked again.
    """
    template = _templated(audited.tokenizer) if audited.tokenizer else None
    with progress.task("verify: opening the model", total=1) as advance:
        model, base = _open(audited)
        advance(1)
    if template is not None and model.tokenizer is not None:
        _check_tokens(template, model.tokenizer, audited.tokenizer)
    left_out: dict[Place, UsageError] = {}
    texts = _written(rows, renderings, model.tokenizer if template is None else template, left_out)
    is_merged = audited.model is not None and audited.endpoint is None
    total = sum(map(len, texts.values())) * (2 if base is not None or is_merged else 1)
    with progress.task(f"verify: scoring texts of {audited.name}, {_parts(texts, total)}", total) as advance:
        first = _scores(Logged(model, log, "model"), texts, left_out, advance)
        if is_merged:  # two whole models need not fit at once
            from dpaudit.models import secret_spans

            assert isinstance(model, secret_spans.LocalModel) and audited.base
            vocabulary = secret_spans.Vocabulary.of(model)
            del model
            base = secret_spans.open_base(audited.base, vocabulary)
        of_first = {at: texts[at] for at in first}
        second = _scores(Logged(base, log, "base"), of_first, left_out, advance) if base else {}
    return {kind: _of_rows(kind, first, second, left_out) for kind in rows}


def _parts(texts: "Mapping[Place, Sequence[Text]]", total: int) -> str:
    """Of what the number of texts is made up, for whoever waits for it."""
    renderings = many(len({rendering for _, rendering in texts}), "rendering")
    both = total > sum(map(len, texts.values()))
    return f"all {renderings}, asked of it and of its base" if both else f"all {renderings}"


def _of_rows(
    kind: str,
    first: "dict[Place, list[SecretScores]]",
    second: "dict[Place, list[SecretScores]]",
    left_out: dict[Place, UsageError],
) -> Said:
    scores = {at[1]: (first[at], second.get(at)) for at in (second or first) if at[0] == kind}
    reasons = (NotAsked(at[1], _reason(error)) for at, error in left_out.items() if at[0] == kind)
    return Said(scores, tuple(reasons))


def _written(
    rows: Mapping[str, Sequence[Planted]],
    renderings: Sequence[str],
    tokenizer: Any,
    left_out: dict[Place, UsageError],
) -> "dict[Place, list[Text]]":
    """The texts of every rendering that can be made; the others are added to `left_out`."""
    from dpaudit.models.secret_spans import Unwritten, texts_of

    texts = {}
    for kind, asked in rows.items():
        is_text = asked[0].record.text is not None  # plain text has one rendering
        for rendering in ("text",) if is_text else renderings:
            try:
                texts[kind, rendering] = texts_of(asked, rendering, tokenizer)
            except Unwritten as error:
                left_out[kind, rendering] = error
    _require_one(texts, left_out)
    return texts


@dataclass(frozen=True, eq=False)
class Logged:
    """A model whose answers are kept as they come, in pieces that do not depend on where a call stopped."""

    model: Scorer
    log: AnswerLog | None
    side: str

    def scores(self, texts: "Sequence[Text]", advance: Advance) -> "list[SecretScores]":
        if self.log is None:
            return self.model.scores(texts, advance)
        found: list[SecretScores] = []
        for start in range(0, len(texts), PIECE):
            piece = texts[start : start + PIECE]
            asked = [self.side, [(text.text, text.secret) for text in piece]]
            (kept,) = self.log.answers([asked])
            if kept is NEW:
                said = self.model.scores(piece, advance)
                self.log.keep(asked, plain_of(said))
            else:
                said = scores_of(kept)
                advance(len(piece))
            found += said
        return found


def _scores(
    model: Logged, texts: "dict[Place, list[Text]]", left_out: dict[Place, UsageError], advance: Advance
) -> "dict[Place, list[SecretScores]]":
    """The scores of every rendering that a server takes; the others are added to `left_out`."""
    from dpaudit.models.secret_spans import Declined

    scores = {}
    for at, written in texts.items():
        try:
            scores[at] = model.scores(written, advance)
        except Declined as error:
            left_out[at] = error
    _require_one(scores, left_out)
    return scores


def _require_one(found: Collection[Place], left_out: dict[Place, UsageError]) -> None:
    """Raises the last rendering's error where none of the canaries is left; of ordinary rows none need be."""
    errors = [error for (kind, _), error in left_out.items() if kind == CANARIES]
    if errors and all(kind != CANARIES for kind, _ in found):
        raise errors[-1]


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


def _open(audited: Audited) -> tuple[Scorer, Scorer | None]:
    if audited.endpoint is not None:
        from dpaudit.models.prompt_logprobs import Endpoint

        served = Endpoint(audited.endpoint, audited.model, audited.allow_egress)
        return served, served.beside(audited.base) if audited.base else None
    from dpaudit.models import secret_spans

    if audited.adapter is not None:
        return secret_spans.open_adapter(audited.adapter, audited.base)[:2]
    return secret_spans.open_whole(str(audited.model)), None


def _templated(folder: str) -> Any:
    """The tokenizer of a folder. Raises UsageError where it has no chat template, its only
    purpose.
    """
    from dpaudit.models import tokenizers

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
