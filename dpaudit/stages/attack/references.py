"""What an arm is compared with: its base, what it started from, or a model that the recipe names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Record
from dpaudit.errors import UsageError
from dpaudit.stages.attack.items import Item
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Advance

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel
    from dpaudit.models.language_model import TokenScores

CONTEXT = 2048  # tokens, where a model does not say


class References:
    """References on one loaded base, each asked once: scores are kept by reference and method."""

    def __init__(self, run_dir: RunDir, plan: Plan, model: "HFModel") -> None:
        self.run_dir, self.plan, self.model = run_dir, plan, model
        self._known: dict[tuple[str, str], list[TokenScores]] = {}

    def scores(
        self, reference: str, arm: Arm, items: Sequence[Item], advance: Advance
    ) -> "list[TokenScores] | None":
        """What a recipe's reference says of the counted tokens of the items; None where it needs none of its
        own.
        """
        if reference in ("none", "shadows"):
            return None
        name = start_of(self.run_dir, self.plan, arm) if reference == "start" else reference
        if (name, arm.method) not in self._known:
            self._known[name, arm.method] = self._asked(name, items, advance)
        return self._known[name, arm.method]

    def _asked(self, name: str, items: Sequence[Item], advance: Advance) -> "list[TokenScores]":
        from dpaudit.models.hf_model import HFModel

        encoded, counted = [item.encoded for item in items], [item.counted for item in items]
        if name != "base" and not (Path(name) / "adapter_config.json").is_file():
            other = HFModel.load(name, self.plan.suite.model.dtype, attention=self.plan.suite.model.attention)
            check_tokens(name, other.tokenizer, self.model.tokenizer)
            return other.counted_scores(encoded, counted, advance)
        if name != "base" and name not in self.model.adapters:
            self.model.add_adapter(name, Path(name))
        with self.model.active(None if name == "base" else name):
            return self.model.counted_scores(encoded, counted, advance)


def check_tokens(name: str, theirs: Any, ours: Any) -> None:
    """Raises UsageError where a reference model would read the same tokens as other text."""
    if theirs.get_vocab() != ours.get_vocab():
        raise UsageError(
            f"reference {name}",
            "a model with the audited model's tokens",
            "another vocabulary",
            "name a model of the same family, or `base`",
        )


def start_of(run_dir: RunDir, plan: Plan, arm: Arm) -> str:
    """The adapter folder that the arm continued from, or `base`. Raises UsageError where that arm
    is not trained or is out of date.
    """
    earlier = plan.suite.grid.start_of(arm)
    if earlier is not None:
        start = TrainedArm(run_dir, earlier.name)
        start.require_current()
        return str(start.adapter)
    if plan.suite.model.start is None:
        return "base"
    inside = Path(plan.suite.model.start) / "adapter"
    return str(inside if inside.is_dir() else plan.suite.model.start)


def rendered(records: Sequence[Record], tokenizer: Any, length: int) -> list[list[int]]:
    """The tokens of held-out records, each in the form that the model is trained on and cut at `length`, as
    there.
    """
    from dpaudit.models.encode import render

    texts = [r.text if r.text is not None else render(r.turns, tokenizer) for r in records]
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"])[:length] for text in texts]


def context(model: "HFModel") -> int:
    """How many tokens the model reads at once."""
    return int(getattr(model.model.config, "max_position_embeddings", CONTEXT) or CONTEXT)
