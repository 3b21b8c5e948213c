"""Three lines in somebody else's private training: `observe` before it, `attach` to its optimizer, `save` at
its end.

    data, watch = dpaudit.observe(data, model, axes=300, key="audit-key.json")
    ...  # make_private and the loop, as they are
    watch.attach(optimizer)
    ...
    watch.save("seen.npz")

Canaries are extra rows of the data, in by fair coins, drawn by the trainer's own sampler. Their gradients
alone are replaced, before the trainer's own clip. What the trainer's program keeps finds slips, and no liar.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpaudit.errors import UsageError
from dpaudit.observing import given, keys, optimizers, record
from dpaudit.observing.axes import Axes, spread
from dpaudit.observing.bare import Bare
from dpaudit.observing.noise import NoiseMeter
from dpaudit.observing.others import Others, Planted, clipped
from dpaudit.observing.ranks import Ranks
from dpaudit.observing.record import About, Record
from dpaudit.observing.rows import ObservedRows, RowsByNumber, rows_of

LOG = logging.getLogger("dpaudit")
SAVE_SECONDS = 60.0
BYPASSED = "clipped no row's gradient and added no noise: what it releases is not private"
LATE = "dpaudit.observe: a step after watch.save, which is not watched: save once, after the last step"
EARLIER = "dpaudit.observe: steps were made before watch.attach, which are not watched"
NARROW = "dpaudit.observe: per-layer clipping with %d axes: a canary shows %.2f of its clip, ask for fewer"
SHOWN_LEAST = 0.9
ONE_ROW_MOST = 8  # batches in which the part of one row is measured


def observe(
    data: RowsByNumber,
    model: nn.Module,
    *,
    axes: int = 300,
    key: str | Path = "audit-key.json",
    seen: str | Path = "seen.npz",
    row: object = None,
    insecure_seed: int | None = None,
) -> "tuple[ObservedRows, Watch]":
    """The data with canaries behind its rows, and the watch of one training on it.

    About half of `axes` become rows, each a copy of `row`, a public row as `data` gives one (its first row
    unless named: what it says reaches no weight). With 0 axes training is the same to the bit. `key` gets
    coins and axes and must not exist; `seen` gets the record, once a minute. `insecure_seed` draws coins that
    anybody can draw again, for tests.

    Raises UsageError for data without row numbers, a model that is watched already or has too few weights,
    and a file that is there.
    """
    count, file, ranks = rows_of(data), Path(seen), Ranks()
    given.check_model(model, axes)

    def drawn() -> keys.ObservedKey:
        given.check_seen(file)
        made = keys.draw(count, axes, insecure_seed)
        keys.write(made, Path(key))
        return made

    made = ranks.of_first(drawn)
    rows = ObservedRows(data, sum(made.coins), row)
    watch = Watch(rows, model, made, file, ranks)
    LOG.info("%s", watch.told)
    return rows, watch


class Watch:
    """What stands beside one training. It draws from no generator of the trainer's."""

    def __init__(
        self, rows: ObservedRows, model: nn.Module, key: keys.ObservedKey, file: Path, ranks: Ranks
    ) -> None:
        self.rows, self.model, self.file, self._ranks = rows, model, file, ranks
        self.commitment = key.commitment
        self._key, self._members = key, np.flatnonzero(key.included)
        self._hook = model.register_forward_pre_hook(given.Listener(self._asked), with_kwargs=True)
        self._inputs: Tensor | None = None
        self._matched = self._unclipped = 0
        self._optimizer: Any = None
        self._ended = True
        self._written: list[Path] = []  # where `save` wrote

    @property
    def told(self) -> str:
        """What canaries do to the sampling rate, in a sentence."""
        n, more = self.rows.rows, self.rows.canaries
        return (
            f"{more} canaries stand behind {n} rows ({len(self._key.coins)} axes): a sampling rate of "
            f"batch / rows becomes {n / (n + more):.3f} times what it was; commitment {self.commitment}"
        )

    def attach(self, optimizer: Any, accountant: Any = None) -> None:
        """Watches the steps of an optimizer from now on; `accountant` is the trainer's own, which is found
        where Opacus hung it on the optimizer. One of PyTorch clips no row: that is told at its first step.

        Raises UsageError for what is no optimizer, for one that cannot be watched, and for a second one.
        """
        if self._optimizer is not None:
            got = "a watch that is attached already"
            raise UsageError("watch.attach", "a watch of one training", got, "observe anew for another")
        theirs = optimizers.private(optimizer, self._ranks)
        self._weights: list[Any] = list(theirs.params)  # parameters with more than torch gives them
        names = {id(p): name for name, p in self.model.named_parameters()}
        if not self._weights or not {id(p) for p in self._weights} <= names.keys():
            got = "weights of another model" if self._weights else "one without a weight to train"
            raise UsageError(
                "watch.attach",
                "the optimizer of the observed model",
                got,
                "observe the model that is trained",
            )
        self._clips = optimizers.weight_clips(theirs)
        self._names = tuple(names[id(p)] for p in self._weights)
        self._axes: Axes = spread(self._weights, len(self._key.coins), self._key.axes_seed, self._clips)
        if self._axes.shown < SHOWN_LEAST:
            LOG.warning(NARROW, len(self._key.coins), self._axes.shown)
        self._noise = NoiseMeter(self._weights, np.random.default_rng())
        trainable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        self._start = {n: (p, _digest(p)) for n, p in trainable}
        # an accountant has a length, which is 0 before the first step
        self._accountant = optimizers.accountant_of(theirs) if accountant is None else accountant
        if optimizers.accounted(self._accountant) or theirs.original_optimizer.state:
            LOG.warning(EARLIER)
        self.rows.forget()  # what was fetched to be looked at
        self._steps: list[tuple[Any, ...]] = []
        self._one_row: list[float] = []
        self._most = 1  # times that one step drew a row
        self._drawn = self._canaries = 0
        self._draws = np.zeros(len(self.rows), dtype=np.int64)  # of every row, in all processes
        self._clipped, self._mixed = False, 0
        self._sums: dict[int, Tensor] = {}  # of several processes: what this one's clip left of every weight
        self._optimizer, self._their_clip = theirs, theirs.clip_and_accumulate
        self._others = Others(self._axes, self._weights, self._their_clip)
        theirs.clip_and_accumulate = self._clip
        self._step_hook = theirs.original_optimizer.register_step_pre_hook(self._released)
        self._saved = time.monotonic()

    def save(self, file: str | Path | None = None) -> Path:
        """Ends the watch and writes the whole record to `file`, or where it was kept once a minute.

        Raises UsageError where no step was watched, and where `file` cannot be written or is there already:
        then the record is whole where it was kept.
        """
        if self._optimizer is None or not self._steps:
            got = "no step" if self._optimizer is not None else "a watch without an optimizer"
            raise UsageError(
                "watch.save", "steps that were watched", got, "watch.attach(optimizer) before training"
            )
        self._hook.remove()
        self._step_hook.remove()
        vars(self._optimizer).pop("clip_and_accumulate", None)
        if isinstance(self._optimizer, Bare):
            self._optimizer.release()
        place = self.file if file is None else Path(file)
        if self._ranks.first:
            self._write(place)
        inner = self._optimizer.original_optimizer
        self._step_hook = inner.register_step_pre_hook(self._missed)
        return place

    def _write(self, place: Path) -> None:
        """Writes the record to `place`, and never over a file of somebody else."""
        whole = self._record(ended=self._ended)
        if place == self.file or place in self._written or not place.exists():
            try:
                record.write(whole, place)
            except (OSError, UsageError) as error:
                if place == self.file:
                    raise
                why = error.got if isinstance(error, UsageError) else type(error).__name__
            else:
                self._written.append(place)
                if self.file not in self._written:
                    self.file.unlink(missing_ok=True)
                return
        else:
            why = given.there(place)
        record.write(whole, self.file)
        kept = f"the record is whole in {self.file}: rename it"
        raise UsageError(f"watch.save {place}", "a file that is not there yet", why, kept)

    def _missed(self, *_: Any) -> None:
        """A step after the record was closed: it tells so."""
        self._step_hook.remove()
        self._ended = False
        LOG.warning(LATE)
        if self._ranks.first:
            record.write(self._record(ended=False), self._written[-1])

    def _asked(self, module: nn.Module, inputs_by_place: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Remembers what the model was asked; what is asked in evaluation mode is not trained on."""
        tensors = (v for v in (*inputs_by_place, *named.values()) if isinstance(v, Tensor) and v.ndim)
        inputs = next(tensors, None)
        if module.training and torch.is_grad_enabled():
            self._inputs = inputs
        elif not module.training and inputs is not None:
            self.rows.passed(len(inputs))

    @torch.no_grad()
    def _clip(self) -> None:
        """Their clip, once the gradients of canaries lie along their axes."""
        parts = [_parts(weight) for weight in self._weights]
        passes = [
            self._put([of_weight[number] for of_weight in parts if number < len(of_weight)])
            for number in range(len(parts[0]))
        ]
        self._inputs = None
        self._clipped = True
        if passes and self._axes.count and all(len(p.gradients) == len(self._weights) for p in passes):
            self._others.clip(passes, float(self._optimizer.max_grad_norm))
        else:
            self._their_clip()
        if (
            self._ranks.count > 1
        ):  # Opacus reduces in place, and what a process adds no noise to is the sum itself
            self._sums = {id(w): w.summed_grad.clone() for w in self._weights}

    def _put(self, gradients: list[Tensor]) -> Planted:
        """The gradients of one backward pass, those of canaries replaced in place."""
        batch = np.array(self.rows.trained(len(gradients[0])), dtype=np.int64)
        self._drawn += batch.size
        at = np.flatnonzero(batch >= self.rows.rows)
        if not at.size or len(gradients) < len(
            self._weights
        ):  # a weight without gradients is for their clip to tell
            return Planted(gradients, at[:0], at[:0])
        self._canaries += at.size
        axes, sequences = self._members[batch[at] - self.rows.rows], self.rows.sequences
        places = np.concatenate([at + batch.size * part for part in range(sequences)])
        self._check_alike(at, batch.size)
        clip = float(self._optimizer.max_grad_norm)
        planted = Planted(gradients, places, np.tile(axes, sequences))
        self._axes.put(gradients, planted.places, planted.axes, clip)
        if len(self._one_row) < ONE_ROW_MOST:
            self._one_row.append(self._one_row_norm(gradients, places[:: at.size], clip))
        return planted

    def _check_alike(self, at: NDArray[np.int64], batch: int) -> None:
        """Copies of one row in one batch look alike; where they do not, rows were moved after they were
        fetched.
        """
        inputs = self._inputs
        if at.size < 2 or inputs is None or len(inputs) not in (batch, batch * self.rows.sequences):
            return
        for first in range(0, len(inputs), batch):
            copies = inputs[torch.as_tensor(at + first, device=inputs.device)]
            if bool((copies != copies[:1]).any()):
                raise UsageError(
                    "dpaudit.observe",
                    "rows in the order in which the loader fetched them",
                    "another row where a canary was fetched",
                    "leave a batch in its order: Poisson sampling has shuffled already",
                )
        self._matched += 1

    def _one_row_norm(self, gradients: list[Tensor], places: NDArray[np.int64], clip: float) -> float:
        """The norm of what one row adds to a sum, over the clip: their clip on the row alone."""
        row = [gradient[torch.as_tensor(places, device=gradient.device)] for gradient in gradients]
        sums = clipped(self._their_clip, self._weights, row)
        return float(np.linalg.norm([float(torch.linalg.vector_norm(s.float())) for s in sums])) / clip

    @torch.no_grad()
    def _released(self, *_: Any) -> None:
        """Keeps what reaches the inner optimizer, before it moves a weight."""
        theirs = self._optimizer
        if isinstance(theirs, Bare):
            theirs.check()
            self.rows.forget()
        others, is_mixed = self._others.taken()
        drawn, canaries, clipping, mixed = self._counted(is_mixed)
        clip = float(theirs.max_grad_norm)
        scale = optimizers.divisor(theirs, self._ranks) if clipping else 1.0
        observed, fresh, compared = np.zeros(self._axes.count), 0.0, 0
        if clipping:
            observed = self._axes.along([w.grad for w in self._weights]) * (scale / clip)
            if not mixed:
                observed -= self._total(others).numpy() / clip
            fresh, compared = self._noise.add([self._noise_of(w, scale, clip) for w in self._weights])
        elif not self._unclipped:
            self._require_own()
            LOG.warning("dpaudit.observe: step %d %s", len(self._steps) + 1, BYPASSED)
        sigma = float(theirs.noise_multiplier)
        self._steps.append(
            (observed.astype(np.float32), drawn, canaries, sigma, clip, scale, fresh, compared)
        )
        self._unclipped += not clipping
        self._mixed += clipping and mixed
        if self._ranks.first and time.monotonic() - self._saved >= SAVE_SECONDS:
            record.write(self._record(ended=False), self.file)
            self._saved = time.monotonic()

    def _require_own(self) -> None:
        """Raises UsageError where another private optimizer clipped for this step."""
        if not self._steps and any(getattr(w, "summed_grad", None) is not None for w in self._weights):
            got = "steps of another one, made private after it"
            raise UsageError("watch.attach", "the optimizer that steps", got, "attach to the last one")

    def _counted(self, is_mixed: bool) -> tuple[int, int, bool, bool]:
        """The rows and canaries of this step in all processes, whether all of them clipped, and whether any
        could not tell other rows from canaries.
        """
        step = [self._drawn, self._canaries, self._clipped, is_mixed, *self.rows.taken()]
        counts = self._total(np.array(step, dtype=np.int64)).numpy()
        self._draws += counts[4:]
        self._most = max(self._most, int(counts[4:].max(initial=0)))
        self._drawn = self._canaries = 0
        self._clipped = False
        return int(counts[0]), int(counts[1]), bool(counts[2] == self._ranks.count), bool(counts[3])

    def _total(self, values: NDArray[Any]) -> Tensor:
        """The sum over all processes, exchanged where their weights are."""
        return self._ranks.total(torch.as_tensor(values, device=self._weights[0].device)).cpu()

    def _noise_of(self, weight: Any, scale: float, clip: float) -> Tensor | None:
        """What was added to their clipped sum, over the clip; None where it does not show."""
        total = self._sums.get(id(weight), getattr(weight, "summed_grad", None))
        if weight.grad is None or total is None:
            return None
        total = self._ranks.total(total)
        noise: Tensor = (weight.grad * scale - total.view_as(weight)) / clip
        return noise

    def _record(self, ended: bool) -> Record:
        observed, drawn, canaries, sigma, clip, scale, fresh, compared = map(
            np.array, zip(*self._steps, strict=True)
        )
        moved = {n: _digest(p) != before for n, (p, before) in self._start.items()}
        others = tuple(n for n, did in moved.items() if did and n not in self._names)  # not this optimizer's
        about = About(
            commitment=self.commitment,
            rows=self.rows.rows,
            axes=len(self._key.coins),
            included=self._members.size,
            weights=self._names + others,
            still=tuple(n for n, did in moved.items() if not did),
            ended=ended,
            clipping=optimizers.clipping(self._optimizer),
            processes=self._ranks.count,
            sequences=self.rows.sequences,
            unclipped=self._unclipped,
            mixed=self._mixed,
            matched=self._matched,
            accountant=None if self._accountant is None else type(self._accountant).__name__,
            accounted=optimizers.accounted(self._accountant),
            optimizer=type(self._optimizer.original_optimizer).__name__,
            program=optimizers.program(self._optimizer),
        )
        return Record(
            about,
            observed.reshape(len(self._steps), about.axes),
            drawn.astype(np.int64),
            canaries.astype(np.int64),
            sigma,
            clip,
            scale,
            fresh,
            compared.astype(np.int64),
            np.bincount(self._draws),
            np.pad(self._noise.squares, (0, len(others))),
            np.pad(self._noise.values, (0, len(others))),
            self._most * np.array(self._one_row),
        )


def _parts(weight: Any) -> list[Tensor]:
    """The gradients of single rows, a tensor a backward pass; none where there were none."""
    gradients = weight.grad_sample
    return [] if gradients is None else gradients if isinstance(gradients, list) else [gradients]


def _digest(weight: Tensor) -> bytes:
    """Tells whether a weight moved, without a copy of it; 0.0 and -0.0 are one value."""
    values = (weight.detach() + 0.0).cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(values.numpy().tobytes()).digest()
