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
    names = {name.encode(): verdict for name, verdict in labels.verdicts().items()}
    alive = set(names)
    weights: dict[str, float] = {}
    end, before = 0, 0.0
    for token in tokens:
        start, end = end, end + len(token.raw)
        if end <= place:
            continue
        if len(token.likeliest) < LEAST:
            return None
        at = _Place(token.raw[: max(0, place - start)], max(0, start - place), frozenset(alive))
        written = at.leads_to(token.raw)
        if not written:
            return None
        left = alive if len(written) == 1 else alive - written
        weights |= {names[name]: before + at.logprob(token, name) for name in left}
        if len(written) == 1:
            return weights
        alive = written
        before += token.logprob
    return None


@dataclass(frozen=True)
class _Place:
    """A place inside of a verdict's name: `done` bytes of it are written, and the token there begins with
    `lead`, which stands before it.
    """

    lead: bytes
    done: int
    names: frozenset[bytes]  # that what was written may still become

    def leads_to(self, raw: bytes) -> set[bytes]:
        """The names that a token at this place may end or go on with; a whole name is not the beginning of a
        longer word.
        """
        lead = self.lead
        if not self.done:
            raw, lead = raw.lstrip(), lead.lstrip()
        if not raw.startswith(lead):
            return set()
        said = raw[len(lead) :].lower()
        said = said if self.done else said.lstrip()
        rests = {name: name[self.done :] for name in self.names}
        whole = {name for name, rest in rests.items() if said.startswith(rest) and _ends(said, rest)}
        begun = {name for name, rest in rests.items() if said and rest.startswith(said)}
        return whole | {name for name in begun if not whole or _ends(rests[name], said)}

    def logprob(self, token: Token, name: bytes) -> float:
        """The log-probability that a name goes on at this token; at most the least told where none leads to
        it.
        """
        told = dict(token.likeliest) | {token.raw: token.logprob}
        fitting = [logprob for raw, logprob in told.items() if name in self.leads_to(raw)]
        if not fitting:
            return min(logprob for _, logprob in token.likeliest)
        most = max(fitting)
        return most if math.isinf(most) else most + math.log(sum(math.exp(one - most) for one in fitting))


def _ends(text: bytes, beginning: bytes) -> bool:
    """Whether the word ends with the beginning of a text."""
    return not text[len(beginning) : len(beginning) + 1].isalnum()


def _place(tokens: Sequence[Token], labels: Labels) -> int | None:
    """The byte at which the name of the verdict begins."""
    try:
        text = b"".join(token.raw for token in tokens).decode()
    except UnicodeDecodeError:
        return None
    found = verdicts.located(text, labels)
    return None if found is None else len(text[: found.name].encode())
