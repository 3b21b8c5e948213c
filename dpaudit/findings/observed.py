"""What was found of claims about a training that dpaudit.observe watched from inside."""

from dataclasses import dataclass
from typing import ClassVar

from dpaudit.findings.answers import Answered
from dpaudit.findings.finding import Finding
from dpaudit.findings.inside import Inside
from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class Watched:
    """The training as its record tells it, beside the mechanism that was claimed."""

    rows: Count  # of the data, without canaries
    extra_rows: Count  # canaries that were in
    axes: Count
    steps: Count
    ended: bool  # False where the record ends before the training
    weights: Count  # trainable tensors
    noise_least: Size  # over the clip: measured on the weight that had the least
    noise_set: Size  # the least noise multiplier that the optimizer was set to
    rate_seen: Proportion  # rows drawn a step, over all rows
    divisor: Size  # expected batch of the optimizer in its last step; 1 of a sum
    clipping: str
    processes: Count
    unclipped: Count  # steps past the clip: where they are all, no canary was planted
    mixed: Count  # of the others, in which the part of other rows along the axes could not be taken out
    sequences: Count  # rows of gradients for one row of the data
    accounted_steps: Count | None  # None where no accountant was found
    optimizer: str
    program: str
    claimed_rate: Proportion
    claimed_steps: Count
    claimed_noise: Size


@dataclass(frozen=True)
class ObservedVerification(Finding):
    """All that verification.json of an observed training holds: no coin, no axis and no row."""

    FORMAT: ClassVar = "observed/3"
    answers: tuple[Answered, ...]  # in the order in which claims were typed
    inside: tuple[Inside, ...]  # one a claim, in the same order
    watched: Watched
    members: Count
    commitment: str
    noted_before: str
    version: str
