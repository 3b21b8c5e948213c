"""Stage attack: scores of every candidate under every arm. Reads no label: `secret/` may be out of reach."""

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpaudit import extraction, recipe, suite
from dpaudit.canary import Canary
from dpaudit.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.progress import Progress
from dpaudit.recipe import Kind, Recipe
from dpaudit.rundir import RunDir, missing
from dpaudit.signals import Span
from dpaudit.stages.prepare import Candidates, load_candidates
from dpaudit.suite import Arm, Method, Plan

if TYPE_CHECKING:
    from dpaudit.models import TokenScores
    from dpaudit.models.encode import Encoded
    from dpaudit.models.hf import HFModel


@dataclass(frozen=True)
class Score:
    """One number of one example. `kind` is canary or record; `example` is the id of the canary or unit."""

    example: str
    kind: str
    signal: str
    value: float


@dataclass(frozen=True, eq=False)
class Item:
    """One sequence to score, and the tokens of it that count. A unit has one item a record."""

    example: str
    kind: str
    encoded: "Encoded"
    counted: NDArray[np.bool_]
    text: str


@dataclass(frozen=True)
class Job:
    """An arm with the recipes whose scores of it are missing or out of date."""

    arm: Arm
    recipes: list[Recipe]


def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    kind: Kind,
    arms: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
) -> None:
    """Writes attack/ARM/RECIPE.parquet for the recipes of `kind` and every trained arm, where it is not current.

    Raises UsageError before anything is written: for too few canaries, an unknown recipe or arm, an arm that
    is not trained (if named in `arms`), a secret that model.max_length cuts.
    """
    chosen = recipe.load_all(kind, recipes)
    candidates = load_candidates(run_dir)
    purposes = [canary.purpose for canary in candidates.canaries]
    recipe.check_minimum(chosen, purposes.count("mia"), purposes.count("extraction"))
    jobs = _stale(run_dir, trained_arms(run_dir, plan, progress, arms), chosen)
    if not jobs:
        return
    with progress.task(f"attack {kind}: loading the model and its adapters", total=1) as advance:
        model = _load(run_dir, plan, [job.arm for job in jobs])
        advance(1)
    if kind == "mia":
        _membership(run_dir, plan, progress, jobs, candidates, model)
    else:
        _extraction(run_dir, plan, progress, jobs, candidates, model)


def trained_arms(
    run_dir: RunDir, plan: Plan, progress: Progress, names: Sequence[str] | None = None
) -> list[Arm]:
    """The arms of the plan, or those named, that are trained. Raises UsageError for an unknown or outdated arm.

    An arm that is not trained is left out with a line, or refused if it was named; where none is, that is refused.
    """
    known = {arm.name: arm for arm in suite.arms(plan.suite)}
    for name in names or ():
        if name not in known:
            raise UsageError(f"arm {name}", expected=f"one of {', '.join(known)}", got="no such arm")
    found = []
    for name, arm in known.items():
        ledger = f"train/{name}/train.json"
        if names is not None and name not in names:
            continue
        if names is None and not run_dir.file(ledger).is_file():
            progress.say(f"{name}: not trained yet, left out")
            continue
        run_dir.require_current(ledger, ("plan.json", "corpus/manifest.json"), "dpaudit train")
        found.append(arm)
    if not found:
        raise missing(run_dir.file("train"), "dpaudit train")
    return found


def score_inputs(arm: str) -> list[str]:
    """What the scores of an arm are made from, beside the recipe."""
    adapter = [f"train/{arm}/adapter/{name}" for name in ("adapter_model.safetensors", "adapter_config.json")]
    return ["plan.json", "corpus/manifest.json", f"train/{arm}/privacy.json", *adapter]


def score_file(arm: str, name: str) -> str:
    return f"attack/{arm}/{name}.parquet"


def write_scores(run_dir: RunDir, arm: str, made_by: Recipe, scores: Iterable[Score]) -> None:
    """Writes one recipe's scores of one arm as a whole or not at all, with what they were made from."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(scores)
    metadata = {
        "inputs": json.dumps(run_dir.digests(score_inputs(arm))),
        "recipe": made_by.digest,
    }
    columns = {name: [getattr(row, name) for row in rows] for name in ("example", "kind", "signal")}
    values = pa.array([row.value for row in rows], pa.float64())
    table = pa.table({**columns, "value": values}).replace_schema_metadata(metadata)
    path = run_dir.file(score_file(arm, made_by.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        pq.write_table(table, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_scores(run_dir: RunDir, arm: str, name: str) -> list[Score]:
    """The rows of one recipe's scores of one arm."""
    import pyarrow.parquet as pq

    return [Score(**row) for row in pq.read_table(run_dir.file(score_file(arm, name))).to_pylist()]


def scores_are_current(run_dir: RunDir, arm: str, made_by: Recipe) -> bool:
    """Whether the scores are there, of the present adapter, and made under the present recipe."""
    file = score_file(arm, made_by.name)
    if not run_dir.is_current(file, score_inputs(arm)):
        return False
    import pyarrow.parquet as pq

    metadata = pq.read_schema(run_dir.file(file)).metadata or {}
    return bool(metadata.get(b"recipe") == made_by.digest.encode())


def _stale(run_dir: RunDir, arms: Iterable[Arm], recipes: Sequence[Recipe]) -> list[Job]:
    jobs = [Job(arm, [r for r in recipes if not scores_are_current(run_dir, arm.name, r)]) for arm in arms]
    return [job for job in jobs if job.recipes]


def _load(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> "HFModel":
    from dpaudit.models.hf import HFModel

    model = HFModel.load(plan.suite.model.base, plan.suite.model.dtype)
    for arm in arms:
        model.add_adapter(arm.name, run_dir.file(f"train/{arm.name}/adapter"))
    return model


# ---- membership inference


def _membership(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[Job],
    candidates: Candidates,
    model: "HFModel",
) -> None:
    """One pass over the candidates an arm serves all its recipes; one pass of the base model serves all arms."""
    methods = {job.arm.method for job in jobs}
    items = {m: _items(plan, candidates, m, model.tokenizer) for m in methods}
    passes = [items[job.arm.method] for job in jobs] + list(items.values())
    with progress.task("attack mia: scoring candidates", total=sum(map(len, passes))) as advance:
        with model.active(None):
            base = {m: model.token_scores([item.encoded for item in items[m]], advance) for m in items}
        for job in jobs:
            rows = items[job.arm.method]
            with model.active(job.arm.name):
                found = model.token_scores([item.encoded for item in rows], advance)
            for chosen in job.recipes:
                scores = _signal_scores(chosen, rows, found, base[job.arm.method])
                _require_numbers(run_dir, job.arm, scores)
                write_scores(run_dir, job.arm.name, chosen, scores)


def _items(plan: Plan, candidates: Candidates, method: Method, tokenizer: Any) -> list[Item]:
    """Canaries by their secret; coin-flipped units by the answers of what the method learns from."""
    from dpaudit.models.encode import encode, encode_text
    from dpaudit.models.spaces import encoded_secret

    length, items = plan.suite.model.max_length, []
    for canary in candidates.canaries:
        if canary.purpose == "mia":
            coded = encoded_secret(canary, tokenizer, length, plain=method == "cpt")
            items.append(Item(canary.id, "canary", coded, _mask(coded.secret_mask), canary.secret))
    for unit, records in _units(candidates, method).items():
        for record in records:
            if record.text is not None:
                coded = encode_text(record.text, tokenizer, length)
            else:
                coded = encode(record.turns, tokenizer, length, last_only=method == "dpo")
            counted = _mask(coded.answer_mask)
            if counted.any():  # nothing counts where the prompt alone fills max_length
                text = tokenizer.decode(np.array(coded.input_ids)[counted], skip_special_tokens=True)
                items.append(Item(unit, "record", coded, counted, text))
    return items


def _units(candidates: Candidates, method: Method) -> dict[str, list[Record]]:
    """Unit -> what an arm of this method learns from; of a preference pair, the prompt with the chosen answer."""
    if method == "dpo":
        return {unit: [_chosen(pair) for pair in pairs] for unit, pairs in candidates.pairs.items()}
    return candidates.records if method == "sft" else candidates.texts


def _chosen(pair: Record) -> Record:
    from dpaudit.corpus import Turn

    assert pair.chosen is not None
    return Record(pair.id, (*pair.turns, Turn("assistant", pair.chosen)), pair.patient)


def _mask(flags: Sequence[bool]) -> NDArray[np.bool_]:
    mask = np.array(flags, dtype=bool)
    mask[:1] = False  # nothing predicts the first token
    return mask


def _signal_scores(
    chosen: Recipe, items: Sequence[Item], arm: Sequence["TokenScores"], base: Sequence["TokenScores"]
) -> list[Score]:
    """One score an example: the mean over its records."""
    signal = chosen.make_signal()
    values: dict[tuple[str, str], list[float]] = {}
    for item, scored, reference in zip(items, arm, base, strict=True):
        at = item.counted
        span = Span(scored.logprob[at], scored.mean[at], scored.std[at], reference.logprob[at], item.text)
        values.setdefault((item.example, item.kind), []).append(signal(span))
    return [
        Score(example, kind, chosen.signal, float(np.mean(found)))
        for (example, kind), found in values.items()
    ]


def _require_numbers(run_dir: RunDir, arm: Arm, scores: Iterable[Score]) -> None:
    """Raises UsageError for NaN: the arm's training diverged."""
    bad = sum(bool(np.isnan(score.value)) for score in scores)
    if bad:
        raise UsageError(
            str(run_dir.file(f"train/{arm.name}/adapter")),
            expected="an adapter that gives every text a probability",
            got=f"NaN for {bad} examples",
            remedy="train the arm with a lower learning rate",
        )


# ---- extraction


def _extraction(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[Job],
    candidates: Candidates,
    model: "HFModel",
) -> None:
    from dpaudit.models.spaces import Space, Spaces

    canaries = [canary for canary in candidates.canaries if canary.purpose == "extraction"]
    maker = Spaces(model.tokenizer, plan.suite.model.max_length)
    spaces: list[Space] = []
    with progress.task("attack extract: listing candidate secrets", total=len(canaries)) as advance:
        for canary in canaries:
            spaces.append(maker.of(canary))
            advance(1)
    with progress.task("attack extract: ranking secrets", total=len(canaries) * len(jobs)) as advance:
        for job in jobs:
            scores: list[Score] = []
            with model.active(job.arm.name):
                greedy = model.token_scores([space.encoded for space in spaces])
                for canary, space, own in zip(canaries, spaces, greedy, strict=True):
                    scores += _secret_scores(canary, space, own, model)
                    advance(1)
            _require_numbers(run_dir, job.arm, scores)
            for chosen in job.recipes:
                write_scores(run_dir, job.arm.name, chosen, scores)


def _secret_scores(canary: Canary, space: Any, own: "TokenScores", model: "HFModel") -> list[Score]:
    """Rank, space and exposure of a secret, and whether greedy decoding writes it; NaN where the model gives NaN."""
    logprobs = model.sequence_logprobs(space.prefix, space.trie)
    broken = bool(np.isnan(logprobs).any())
    rank = float("nan") if broken else extraction.rank(logprobs, space.secret_index)
    bits = float("nan") if broken else extraction.exposure(logprobs, space.secret_index)
    written = bool(own.greedy[_mask(space.encoded.secret_mask)].all())
    found = {"rank": rank, "space": canary.space, "exposure": bits, "greedy_match": written}
    return [Score(canary.id, "canary", signal, float(value)) for signal, value in found.items()]
