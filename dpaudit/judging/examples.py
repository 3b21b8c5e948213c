"""Answers of all models side by side, to prompts that are public. What may be private in them is withheld."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from dpaudit.data import contamination, pii
from dpaudit.data.corpus import Turn
from dpaudit.findings.judgement import Example, ShownAnswer
from dpaudit.judging.comparing import Answered
from dpaudit.judging.verdicts import question_of

COUNT = 5  # prompts, each of another fact
LONGEST = 600  # characters of a text; of a longer one the beginning is shown
SECRET = "it holds a secret that was planted"
PERSONAL = "it holds a personal field that its prompt does not"
TRAINED = "a part of it stands in the training text"


def side_by_side(
    prompts: Mapping[str, Sequence[Turn]],
    known: Answered,
    secrets: Collection[str],
    training: Iterable[str] = (),
) -> tuple[Example, ...]:
    """The first COUNT prompts of different facts with what every model answered.

    An answer is withheld that holds one of the `secrets`, a personal field that neither prompt nor reference
    holds, or a run of words of the `training` texts; where these are public themselves, none are given.
    """
    first: dict[str, str] = {}  # fact -> prompt
    for prompt in prompts:
        first.setdefault(known.facts.get(prompt, prompt), prompt)
    chosen = [prompt for prompt in first.values() if prompt in known.references][:COUNT]
    told = {prompt: f"{question_of(prompts[prompt])}\n{known.references[prompt]}" for prompt in chosen}
    asked = {(model, prompt): known.texts[model][prompt] for model in known.texts for prompt in chosen}
    keys = {f"{number}": place for number, place in enumerate(asked)}
    repeated = contamination.repeating(
        {key: asked[place] for key, place in keys.items()},
        {key: told[place[1]] for key, place in keys.items()},
        training,
    )
    withheld = {keys[key]: TRAINED for key in repeated}
    for (model, prompt), text in asked.items():
        if any(field for field in pii.find(text) if text[field.start : field.stop] not in told[prompt]):
            withheld[model, prompt] = PERSONAL
        if any(secret.casefold() in text.casefold() for secret in secrets if secret not in told[prompt]):
            withheld[model, prompt] = SECRET
    rights = {model: known.rights(model) for model in known.texts}
    return tuple(
        Example(
            _shortened(question_of(prompts[prompt])),
            _shortened(known.references[prompt]),
            tuple(
                _shown(model, known.texts[model][prompt], right.get(prompt), withheld.get((model, prompt)))
                for model, right in rights.items()
            ),
        )
        for prompt in chosen
    )


def _shown(model: str, text: str, right: bool | None, why: str | None) -> ShownAnswer:
    return ShownAnswer(model, None if why else _shortened(text), right, why)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
