"""The log-probability of every verdict at the place of the one that a judge wrote."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpaudit.judging import verdicts
from dpaudit.judging.verdicts import Labels

LEAST = 2  # tokens that must be told at a place, before it says which is the likeliest


@dataclass(frozen=True)
class Token:
    """A token that was written, with its log-probability in nats, and the likeliest ones at its place."""

    raw: bytes
    logprob: float
    likeliest: tuple[tuple[bytes, float], ...]


def weigh(tokens: Sequence[Token], labels: Labels) -> dict[str, float] | None:
    """The log-probability of each verdict (nats, higher = more likely) where the last one of a reply stands.

    A verdict is left at the token at which it parts from the one written. One that no token there leads to
    has at most the least of those told, and gets that. None where no verdict is written, or where too few
    tokens are told.
    """
    place = _place(tokens, labels)
    if place is None:
        return None
    alive = {name.encode(): verdict for name, verdict in labels.verdicts().items()}
    weights: dict[str, float] = {}
    end, before = 0, 0.0
    for token in tokens:
        start, end = end, end + len(token.raw)
        if end <= place:
            continue
        if len(token.likeliest) < LEAST:
            return None
        lead, done = token.raw[: max(0, place - start)], max(0, start - place)
        written = {name for name in alive if _leads(token.raw, lead, name[done:], not done)}
        for name in alive:
            if name not in written or len(written) == 1:
                weights[alive[name]] = before + _logprob(token, lead, name[done:], not done)
        if len(written) <= 1:
            return weights
        alive = {name: alive[name] for name in written}
        before += token.logprob
    return None


def _place(tokens: Sequence[Token], labels: Labels) -> int | None:
    """The byte at which the name of the verdict begins."""
    try:
        text = b"".join(token.raw for token in tokens).decode()
    except UnicodeDecodeError:
        return None
    found = verdicts.located(text, labels)
    return None if found is None else len(text[: found.name].encode())


def _logprob(token: Token, lead: bytes, rest: bytes, is_first: bool) -> float:
    """The log-probability that a name goes on with `rest` at this token."""
    told = dict(token.likeliest) | {token.raw: token.logprob}
    fitting = [logprob for raw, logprob in told.items() if _leads(raw, lead, rest, is_first)]
    if not fitting:
        return min(logprob for _, logprob in token.likeliest)
    most = max(fitting)
    return most if math.isinf(most) else most + math.log(sum(math.exp(one - most) for one in fitting))


def _leads(raw: bytes, lead: bytes, rest: bytes, is_first: bool) -> bool:
    """Whether a token, which begins with `lead`, goes on with a name of which `rest` is not written yet."""
    if is_first:
        raw, lead = raw.lstrip(), lead.lstrip()
    if not raw.startswith(lead):
        return False
    said = raw[len(lead) :].decode("utf-8", "surrogateescape").casefold()
    said = said.lstrip() if is_first else said
    name = rest.decode("utf-8", "surrogateescape")
    if said.startswith(name):
        return not said[len(name) : len(name) + 1].isalnum()
    return bool(said) and name.startswith(said)
