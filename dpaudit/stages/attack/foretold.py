"""What `attack mia` will take: all its recipes on a few candidates, by an adapter that learned nothing."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Record
from dpaudit.signals import recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.stages.attack import attack, membership
from dpaudit.stages.attack.items import Item, items_of
from dpaudit.stages.attack.membership import Asked, Copies, means, token_scores
from dpaudit.stages.prepare.candidates import load_candidates
from dpaudit.stages.train import start
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system import parallel
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel
    from dpaudit.training.trial import Seconds

SECONDS = 3.0  # of scoring, about, for each method
FIRST, MOST = 8, 200  # candidates


def seconds(run_dir: RunDir, plan: Plan, progress: Progress, only: Sequence[str] | None = None) -> "Seconds":
    """What `attack mia` takes on all arms (or `only` those named) of a run whose corpus is drawn, measured in
    a process of its own.

    Recipes that compare with shadow models are not in it.
    """
    import numpy as np

    file = run_dir.file("trial-mia.json")
    job = parallel.Job("measuring attack mia on a few candidates", 1, _try, (run_dir, plan, file, only))
    parallel.run([job], 1, progress, apart=True)
    return np.array(json.loads(file.read_text()))


def _try(
    run_dir: RunDir, plan: Plan, file: Path, only: Sequence[str] | None, advance: Callable[[int], None]
) -> None:
    from dpaudit.models.hf_model import HFModel
    from dpaudit.training.trial import timed

    folder = _adapter(run_dir, plan)
    total, model = timed(lambda: HFModel.as_trained(plan.suite.model))
    candidates = load_candidates(run_dir)
    heldout = [Record.from_json(row) for row in run_dir.iterate_lines("corpus/heldout.jsonl")]
    arms = [arm for arm in plan.suite.grid.named(only) if not arm.twin]
    for method in dict.fromkeys(arm.method for arm in arms):
        own = [arm for arm in arms if arm.method == method]
        model.add_adapter(own[0].name, folder)
        chosen = _recipes(run_dir, plan, own[0])
        if items := items_of(plan, candidates, method, model.tokenizer).items:
            total = total + _of_method(run_dir, plan, model, own, chosen, items, heldout)
    file.write_text(json.dumps(total.tolist()))
    advance(1)


def _recipes(run_dir: RunDir, plan: Plan, arm: Arm) -> list[Recipe]:
    return attack.applicable(run_dir, plan, arm, recipe.load_all("mia"), Progress(quiet=True))


def _adapter(run_dir: RunDir, plan: Plan) -> Path:
    from dpaudit.models import adapter_files

    folder = run_dir.file("trial-adapter")
    adapter_files.save_adapter(start.fresh(plan, plan.seed), folder, plan.suite.model.base, "")
    return folder


def _of_method(
    run_dir: RunDir,
    plan: Plan,
    model: "HFModel",
    arms: Sequence[Arm],
    chosen: Sequence[Recipe],
    items: Sequence[Item],
    heldout: list[Record],
) -> "Seconds":
    """What all arms of one method take: copies are made once, a reference is asked once, arms each."""
    import numpy as np

    from dpaudit.training.trial import timed

    with model.active(arms[0].name):
        token_scores(model, items[:1], _silent)
        few = _spread(items, FIRST)
        first = timed(lambda: token_scores(model, few, _silent))[0][0] / len(few)
    wanted = {s.evidence: s for r in chosen for s in membership.signals_of(r) if hasattr(s, "evidence")}
    passes = 2 + sum(membership.passes_of(signal, ()) for signal in wanted.values())
    some = _spread(items, min(MOST, max(FIRST, int(SECONDS / (first * passes)))))
    copies = Copies(some, model.tokenizer, plan.suite.model.max_length)

    def asked_once() -> None:
        with model.active(arms[0].name):
            scored = token_scores(model, some, _silent)
        asked = Asked(run_dir, plan, model, arms[0], some, copies, heldout, means(scored), _silent)
        for made_by in chosen:
            membership.scores_of(made_by, asked, scored, scored)

    (with_copies, _), (each, _) = timed(asked_once), timed(asked_once)
    with model.active(None):
        reference, _ = timed(lambda: token_scores(model, some, _silent))
    found = each * len(arms) + np.maximum(with_copies - each, 0) + reference * _references(plan, arms, chosen)
    return found * len(items) / len(some)


def _references(plan: Plan, arms: Sequence[Arm], chosen: Sequence[Recipe]) -> int:
    """How many references are asked."""
    names: set[Any] = set()
    for made_by in chosen:
        if made_by.reference == "start":
            names |= {plan.suite.grid.start_of(arm) or "base" for arm in arms}
        elif made_by.reference not in ("none", "shadows"):
            names.add(made_by.reference)
    return len(names)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """As many items, evenly over all."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _silent(n: int = 1) -> None:
    """Counts nothing."""
