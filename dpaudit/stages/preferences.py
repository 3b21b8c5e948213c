"""Held-out preference pairs in stage evaluate: what DPO arms, their starts, and fine-tuning at the same claim
say of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpaudit.data.corpus import Record
from dpaudit.findings.preferences import (
    HeldPair,
    Incomparable,
    PreferenceChange,
    PreferenceResults,
    Preferences,
    Role,
)
from dpaudit.findings.quality import BASE, Measured
from dpaudit.judging import preferences
from dpaudit.judging.quality import CONFIDENCE
from dpaudit.stages.attack.references import start_of
from dpaudit.stages.integrity.trained import weights_of
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel

FILE, PAIRS = "evaluate/preferences.json", "corpus/heldout_pairs.jsonl"
START = "the run's start"  # an adapter from outside of the run


def run(
    run_dir: RunDir, plan: Plan, trained: Sequence[Arm], base: dict[str, str], progress: Progress
) -> None:
    """Writes evaluate/preferences.json, if a DPO arm is trained and pairs are held out: ids and numbers."""
    compared = compared_arms(plan, trained)
    if not compared or not run_dir.file(PAIRS).is_file() or not (pairs := _pairs(run_dir)):
        return
    _tell(missing := incomparable(plan, trained), progress)
    made_from = _inputs(plan, compared)
    if Preferences.is_current(run_dir, FILE, made_from) and Preferences.read(run_dir, FILE).base == base:
        return
    with run_dir.read_now(dict.fromkeys(file for file in made_from if file.startswith("train/"))):
        said = _said(run_dir, plan, compared, pairs, progress)
    results = results_of(run_dir, compared, said, len(pairs))
    kept = {name: tuple(of) for name, of in said.items()}
    found = Preferences(replace(results, incomparable=tuple(missing)), kept, base)
    found.write(run_dir, FILE, made_from)


def compared_arms(plan: Plan, trained: Sequence[Arm]) -> list[tuple[Arm, str, Role]]:
    """Each trained DPO arm with what it is compared with: its start, and the arm that fine-tuning alone gives
    for the same claim.
    """
    there = {arm.name: arm for arm in trained}
    found: list[tuple[Arm, str, Role]] = []
    for arm in (arm for arm in trained if arm.method == "dpo" and not arm.twin):
        start = plan.suite.grid.start_of(arm)
        outside = BASE if plan.suite.model.start is None else START
        found.append((arm, start.name if start else outside, "its start"))
        alone = Arm("sft", "sft", arm.epsilon, arm.seed)
        if alone.name in there and alone != start:
            found.append((arm, alone.name, "fine-tuning at the same claim"))
    return found


def incomparable(plan: Plan, trained: Sequence[Arm]) -> list[Incomparable]:
    """The trained DPO arms of which no comparison with dialogues alone at the same claim is possible."""
    there = {arm.name for arm in trained}
    found = []
    for arm in (arm for arm in trained if arm.method == "dpo" and not arm.twin):
        alone = Arm("sft", "sft", arm.epsilon, arm.seed)
        if alone.name not in there:
            found.append(Incomparable(arm.name, alone.name, arm.epsilon))
    return found


def _tell(missing: Sequence[Incomparable], progress: Progress) -> None:
    for row in missing:
        progress.say(
            f"note: {row.arm} has no comparison with dialogues alone at the same claim, since {row.against} "
            f"is not trained here: whether its pairs were worth their part of epsilon is not known"
        )


def _names(compared: Sequence[tuple[Arm, str, Role]]) -> list[str]:
    """Every model that is asked, the base first."""
    names = dict.fromkeys([BASE, *(name for arm, other, _ in compared for name in (other, arm.name))])
    return list(names)


def _inputs(plan: Plan, compared: Sequence[tuple[Arm, str, Role]]) -> list[str]:
    inside = [name for name in _names(compared) if name not in (BASE, START)]
    evaluated = [f"evaluate/{name}.json" for name in (BASE, *inside)]
    return ["plan.json", "corpus/manifest.json", *map(weights_of, inside), *evaluated]


def _pairs(run_dir: RunDir) -> list[Record]:
    return [Record.from_json(row) for row in run_dir.read_lines(PAIRS)]


def _said(
    run_dir: RunDir,
    plan: Plan,
    compared: Sequence[tuple[Arm, str, Role]],
    pairs: Sequence[Record],
    progress: Progress,
) -> dict[str, list[HeldPair]]:
    """Model -> what it says of the pairs whose answers fit, the same pairs of every model."""
    from dpaudit.models.hf_model import HFModel

    names = _names(compared)
    with progress.task("evaluating preferences", len(names)) as advance:
        model = HFModel.as_trained(plan.suite.model)
        for name in names:
            if name == START:
                model.add_adapter(START, Path(start_of(run_dir, plan, compared[0][0])))
            elif name != BASE:
                model.add_adapter(name, run_dir.file(weights_of(name)).parent)
        said = {}
        for name in names:
            with model.active(None if name == BASE else name):
                said[name] = heldout_pairs(model, plan, pairs)
            advance()
    return said


def heldout_pairs(model: "HFModel", plan: Plan, pairs: Sequence[Record]) -> list[HeldPair]:
    """Log-probabilities of both answers of every pair, cut as in training; a pair of which an answer is cut
    is left out.
    """
    from dpaudit.models.encode import counted_mask, encode_record

    settings = plan.suite.model
    lengths = (settings.max_length, settings.pair_prompt, settings.pair_answer)
    encoded = [(pair, encode_record(pair, model.tokenizer, *lengths)) for pair in pairs]
    fitting = [(pair, both) for pair, both in encoded if not any(one.truncated for one in both)]
    flat = [one for _, both in fitting for one in both]
    scores = model.token_scores(flat, counted=[counted_mask(one.answer_mask) for one in flat])
    rows = []
    for number, (pair, both) in enumerate(fitting):
        masks = [counted_mask(one.answer_mask) for one in both]
        chosen, rejected = (
            float(scores[2 * number + side].logprob[mask].astype(np.float64).sum())
            for side, mask in enumerate(masks)
        )
        of_chosen, of_rejected = (int(mask.sum()) for mask in masks)
        rows.append(HeldPair(pair.id, chosen, rejected, of_chosen, of_rejected, pair.patient or pair.id))
    return rows


def results_of(
    run_dir: RunDir,
    compared: Sequence[tuple[Arm, str, Role]],
    said: Mapping[str, Sequence[HeldPair]],
    asked: int,
) -> PreferenceResults:
    """What follows from what the models said of the pairs, of which `asked` were held out."""
    rows = [Record.from_json(row) for row in run_dir.read_lines("corpus/heldout.jsonl")]
    clusters = {record.id: record.patient or record.id for record in rows}
    inside = [name for name in said if name != START]
    heldout = {name: Measured.read(run_dir, f"evaluate/{name}.json").heldout for name in inside}
    found = []
    for arm, other, role in compared if said[BASE] else ():
        texts = {"arm": heldout[arm.name], "against": heldout.get(other, ())}
        changes = preferences.changes(said[arm.name], said[other], texts, clusters)
        worse = preferences.worse(changes) if role == "its start" else None
        found.append(PreferenceChange(arm.name, other, role, changes, worse))
    models = [preferences.figures(name, of, asked - len(of)) for name, of in said.items() if of]
    return PreferenceResults(CONFIDENCE, tuple(models), tuple(found), ())
