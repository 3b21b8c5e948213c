"""What a judge's model is called, and whether the name says which model it is."""

from collections.abc import Iterator
from pathlib import Path

from dpaudit.findings.counted import many
from dpaudit.findings.judgement import Passport
from dpaudit.judging.rubric import Rubric

# names under which a server may load any model
NAMELESS = ("", "default", "model", "default-model", "local-model", "local", "llm", "none", "any", "gpt")


def told(rules: Rubric) -> str:
    """The model with its adapter; of a folder with its whole path, the last part alone."""
    named = [rules.model] if rules.adapter is None else [rules.model, rules.adapter]
    return " with ".join(Path(name).name if Path(name).is_absolute() else name for name in named)


def caution(rules: Rubric) -> str | None:
    """What must be known of a server's model whose name says nothing; None where there is no such doubt."""
    if rules.kind != "endpoint" or rules.model.strip().casefold() not in NAMELESS:
        return None
    return (
        f"the name {rules.model!r} does not say which model judged: a server may load another under it, "
        "and kept replies would still count; give the model's own name as `model` of the rubric"
    )


def notes(rules: Rubric, passport: Passport) -> Iterator[str]:
    """What must be known of a judge, fit or not."""
    if (doubt := caution(rules)) is not None:
        yield doubt
    if passport.untested:
        kinds = ", ".join(f"{kind} ({many(count, 'control')})" for kind, count in passport.untested.items())
        yield f"not tested, fewer than {passport.least} controls each: {kinds}"
