"""The folder of a page of verify: no result of another audit in it is lost.

Whoever tests one more claim in the same folder repeats all that stands there, so that one page and one family
hold all that was ever tested there.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpaudit import schema
from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.evidence.family import ERROR
from dpaudit.findings.verification import AuditedModel, Verification
from dpaudit.privacy.claim import Claim
from dpaudit.stages import verify_facts
from dpaudit.stages.audited import Audited

OUT, FILE, PAGE = Path("verification"), "verification.json", "index.html"
ANOTHER = "name another folder with --out DIR"


@dataclass(frozen=True)
class Stands:
    """A claim about a model, as a result tells it."""

    name: str
    model: AuditedModel
    claim: Claim

    @property
    def typed(self) -> str:
        option = "--adapter" if self.model.kind == "adapter" else "--model"
        named = f"{option} {self.model.name} " if self.model.name else ""
        return f"{named}--claim {claims.typed(self.claim)}"


def check(folder: Path, asked: Sequence[tuple[Audited, Claim]], commitment: str) -> None:
    """Raises UsageError where nothing can be written, or only over a result that the new one does not hold,
    before hours of scoring and not after them.
    """
    _require_writable(folder)
    try:
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
        standing = _standing(known, commitment)
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, RecursionError, UsageError):
        raise _refused(folder, "a result of another key, format or program", ANOTHER) from None
    wanted = _of_request(asked)
    if lost := standing - set(wanted):
        remedy = _remedy(sorted(lost, key=str), wanted)
        raise _refused(folder, "a result for another model or claim", remedy)


def _refused(folder: Path, got: str, remedy: str) -> UsageError:
    expected = "no result of another audit, which this one would replace"
    return UsageError(str(folder / FILE), expected, got, remedy)


def _remedy(lost: Sequence[Stands], wanted: Sequence[Stands]) -> str:
    """What to type so that all claims are one family; that is not to be had where a model has changed."""
    own = f"{ANOTHER}: that page is a family of its own, and errs in up to a further {ERROR:.0%} of cases"
    known = {claim.name: claim.model for claim in lost}
    changed = [claim.name for claim in wanted if known.get(claim.name, claim.model) != claim.model]
    if changed:
        return f"the files of {changed[0]} were others when that result was made; {own}"
    whole = " ".join(claim.typed for claim in [*lost, *wanted])
    return f"to test all in one family, type the same command with {whole}; or {own}"


def _require_writable(folder: Path) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        what = "a folder without write permission" if there.is_dir() else "a file"
        raise UsageError(
            f"--out {folder}",
            "a folder to write in, there or to be made",
            f"{there.absolute()}, {what}",
            ANOTHER,
        )


def _standing(known: dict[str, Any], commitment: str) -> set[Stands]:
    """The claims of a result. Raises an error of its kind for one of another key or format."""
    if known["format"] != Verification.FORMAT or known["commitment"] != commitment:
        raise ValueError
    models = {
        model["name"]: schema.build(AuditedModel, model["audited"] | {"base": None}, file=FILE)
        for model in known["models"]
    }
    return {
        Stands(answer["arm"], models[answer["arm"]], schema.build(Claim, answer["claim"], file=FILE))
        for answer in known["answers"]
    }


def _of_request(asked: Sequence[tuple[Audited, Claim]]) -> list[Stands]:
    """The claims that are asked now, in their order. A file of weights that is not there is told when the
    model is opened.
    """
    return [
        Stands(audited.name, replace(verify_facts.named(audited, None), base=None), claim)
        for audited, claim in asked
    ]
