"""The record of a correct training, drawn and not trained, and its key."""

from typing import Any

import numpy as np

from dpaudit.observing import keys
from dpaudit.observing.record import About, Accounted, Record
from dpaudit.privacy.mechanism import Mechanism

ROWS, AXES, BATCHES, STEPS, SIGMA, VALUES = 1000, 100, 20, 60, 0.7, 4000
KEY = keys.draw(ROWS, AXES, seed=3)
CLAIMED = Mechanism(SIGMA, 1 / BATCHES, STEPS, 1.0)
CLAIM = "eps=8,delta=1e-5,unit=record,relation=add_or_remove"


def about(**changed: Any) -> About:
    said = {
        "commitment": KEY.commitment,
        "rows": ROWS,
        "axes": AXES,
        "included": int(KEY.included.sum()),
        "weights": ("a.weight", "b.weight"),
        "still": (),
        "ended": True,
        "clipping": "flat",
        "processes": 1,
        "sequences": 1,
        "unclipped": 0,
        "mixed": 0,
        "matched": STEPS,
        "accountant": "RDPAccountant",
        "accounted": (Accounted(SIGMA, 1 / BATCHES, STEPS),),
        "optimizer": "AdamW",
        "program": "Opacus 1.6.0",
    }
    return About(**{**said, **changed})


def made(rate: float = 1 / BATCHES, there: slice = slice(None), **changed: Any) -> Record:
    """Arrays by their names take the place of those of a correct training; other names are of About. Only
    rows that are `there` are drawn.
    """
    arrays = _drawn(rate, there)
    said = about(**{name: value for name, value in changed.items() if name not in arrays})
    return Record(said, **{name: changed.get(name, array) for name, array in arrays.items()})


def _drawn(rate: float, there: slice) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    included = KEY.included
    draws = generator.random((STEPS, ROWS + int(included.sum()))) < rate
    left_out = np.ones(draws.shape[1], dtype=bool)
    left_out[there] = False
    draws[:, left_out] = False
    observed = SIGMA * generator.normal(size=(STEPS, AXES))
    observed[:, included] += draws[:, ROWS:]
    return {
        "observed": observed.astype(np.float32),
        "drawn": draws.sum(1),
        "canaries": draws[:, ROWS:].sum(1),
        "noise_multiplier": np.full(STEPS, SIGMA),
        "clip": np.ones(STEPS),
        "divisor": np.full(STEPS, 50.0),
        "fresh": np.abs(generator.normal(size=STEPS)),
        "compared": np.minimum(np.arange(STEPS), 64),
        "row_draws": np.bincount(draws.sum(0)),
        "noise_squares": SIGMA**2 * generator.chisquare(VALUES * STEPS, 2),
        "noise_values": np.full(2, VALUES * STEPS),
        "one_row": np.ones(8),
    }
