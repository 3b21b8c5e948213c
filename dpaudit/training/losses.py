"""Loss functions of one example each. None couples two examples, so that a unit's gradient can be clipped
alone.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dpaudit.errors import UsageError

DISCOPOP_TAU = 0.05  # appendix E of its paper
BCO_DELTA = 0.0  # see `bco_pair`
ORPO_CEILING = -1e-6  # nats a token; see `orpo`


@dataclass(frozen=True)
class PairLogProbs:
    """Log-probabilities of both answers of each pair, in nats, summed over the answer's tokens; all (pairs,).

    A loss that needs no reference gets NaN for both reference fields, so that using them shows.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor

    @property
    def chosen_ratio(self) -> Tensor:
        """log(policy / reference) of the chosen answer."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        return self.rejected - self.reference_rejected

    @property
    def margin(self) -> Tensor:
        """By how much more than the reference the policy prefers the chosen answer."""
        return self.chosen_ratio - self.rejected_ratio


@dataclass(frozen=True)
class Settings:
    """`label_smoothing` is 0 where a loss has none, and `gamma` too."""

    beta: float
    label_smoothing: float = 0.0
    gamma: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A loss with its published settings. `function` gives (pairs,), in nats; lower is better."""

    function: Callable[[PairLogProbs, Settings], Tensor]
    settings: Settings
    title: str
    source: str
    needs_reference: bool = True


def sft(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood of each record's own answer tokens, in nats.

    `log_probs` (records,) sums over a record's answer tokens, `tokens` (records,) counts them. The mean is
    per record and not per batch: a batch mean would let one record's length change another's gradient. A
    record whose answer was cut off entirely has loss 0.
    """
    return -_per_token(log_probs, tokens)


def sigmoid(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """-log sigmoid(beta * margin). Rafailov et al. 2023, equation 7."""
    return -logsigmoid(settings.beta * pairs.margin)


def cdpo(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """The sigmoid loss in expectation over labels that are wrong with probability `label_smoothing`.

    Mitchell 2023, "A note on DPO with noisy preferences", equation 3.
    """
    scores, wrong = settings.beta * pairs.margin, settings.label_smoothing
    return -(1 - wrong) * logsigmoid(scores) - wrong * logsigmoid(-scores)


def robust(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """A loss whose mean over labels flipped with probability `label_smoothing` is the sigmoid loss without
    flips.

    Chowdhury, Kini, Natarajan 2024, section 3.1.
    """
    scores, wrong = settings.beta * pairs.margin, settings.label_smoothing
    return (-(1 - wrong) * logsigmoid(scores) + wrong * logsigmoid(-scores)) / (1 - 2 * wrong)


def ipo(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """(margin per token - 1 / (2 beta)) squared. Azar et al. 2023, equation 17.

    Averages over each answer's tokens as TRL does: a sum would make the target depend on the length.
    """
    chosen = _per_token(pairs.chosen_ratio, pairs.chosen_tokens)
    rejected = _per_token(pairs.rejected_ratio, pairs.rejected_tokens)
    return (chosen - rejected - 1 / (2 * settings.beta)) ** 2


def hinge(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """max(0, 1 - beta * margin). Zhao et al. 2023, section 2, on the ratios of Liu et al. 2024 (RSO), section
    3.3.
    """
    return torch.relu(1 - settings.beta * pairs.margin)


def exo_pair(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """Reverse Kullback-Leibler divergence from the smoothed label to the policy's own. Ji et al. 2024,
    equation 16.
    """
    scores, wrong = settings.beta * pairs.margin, settings.label_smoothing
    for_chosen = scores.sigmoid() * (logsigmoid(scores) - math.log1p(-wrong))
    for_rejected = (-scores).sigmoid() * (logsigmoid(-scores) - math.log(wrong))
    return for_chosen + for_rejected


def nca_pair(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """Noise-contrastive alignment: both answers against the reference. Chen et al. 2024, section 4.1."""
    chosen, rejected = settings.beta * pairs.chosen_ratio, settings.beta * pairs.rejected_ratio
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def bco_pair(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """-log sigmoid(chosen reward - delta) - log sigmoid(delta - rejected reward). Jung et al. 2024, section
    4.

    The paper's delta is a running mean of other pairs' rewards. That would couple pairs, so it is held at 0,
    as in TRL's paired form.
    """
    chosen, rejected = settings.beta * pairs.chosen_ratio, settings.beta * pairs.rejected_ratio
    return -logsigmoid(chosen - BCO_DELTA) - logsigmoid(BCO_DELTA - rejected)


def sppo_hard(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """Squared distance of both ratios to +-1 / (2 beta). Wu et al. 2024, equation 4.7 with P of 1 and 0."""
    target = 0.5 / settings.beta
    return (pairs.chosen_ratio - target) ** 2 + (pairs.rejected_ratio + target) ** 2


def apo_zero(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """Raises the chosen answer and lowers the rejected one. D'Oosterlinck et al. 2024, equation 7."""
    chosen, rejected = settings.beta * pairs.chosen_ratio, settings.beta * pairs.rejected_ratio
    return 1 - chosen.sigmoid() + rejected.sigmoid()


def apo_down(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """Lowers both answers, the rejected one more. D'Oosterlinck et al. 2024, equation 8."""
    return (settings.beta * pairs.chosen_ratio).sigmoid() + 1 - (settings.beta * pairs.margin).sigmoid()


def discopop(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """A discovered blend of logistic and exponential loss, not convex about 0. Lu et al. 2024, equation 5.

    The exponential and its weight are multiplied as logarithms: apart, one overflows where the other
    vanishes.
    """
    scores = settings.beta * pairs.margin
    mixed = scores / DISCOPOP_TAU
    return -logsigmoid(scores) * (-mixed).sigmoid() + torch.exp(logsigmoid(mixed) - scores)


def sigmoid_norm(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """The sigmoid loss of the margin per token. Lambert et al. 2024 (Tulu 3), section 5.1."""
    chosen = _per_token(pairs.chosen_ratio, pairs.chosen_tokens)
    rejected = _per_token(pairs.rejected_ratio, pairs.rejected_tokens)
    return -logsigmoid(settings.beta * (chosen - rejected))


def simpo(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """-log sigmoid(beta * difference per token - gamma), without a reference. Meng et al. 2024, equation
    6.
    """
    chosen = _per_token(pairs.chosen, pairs.chosen_tokens)
    rejected = _per_token(pairs.rejected, pairs.rejected_tokens)
    return -logsigmoid(settings.beta * (chosen - rejected) - settings.gamma)


def orpo(pairs: PairLogProbs, settings: Settings) -> Tensor:
    """Likelihood of the chosen answer and beta (the paper's lambda) times the log odds ratio. Hong et al.
    2024, equation 6.

    Both per token; the likelihood is a mean over the pair's own chosen tokens, where TRL takes one over the
    batch and the prompts. The odds are infinite at probability 1 and their gradient is not a number, so the
    odds take a mean log-probability above ORPO_CEILING for that value.
    """
    chosen = _per_token(pairs.chosen, pairs.chosen_tokens)
    rejected = _per_token(pairs.rejected, pairs.rejected_tokens)
    return -chosen - settings.beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))


LOSSES: dict[str, Loss] = {
    "sigmoid": Loss(sigmoid, Settings(0.1), "DPO", "arXiv 2305.18290"),
    "cdpo": Loss(cdpo, Settings(0.1, 0.1), "conservative DPO", "Mitchell 2023"),
    "robust": Loss(robust, Settings(0.1, 0.1), "robust DPO", "arXiv 2403.00409"),
    "ipo": Loss(ipo, Settings(0.1), "identity preference optimisation", "arXiv 2310.12036"),
    "hinge": Loss(hinge, Settings(0.1), "SLiC, the hinge loss", "arXiv 2305.10425"),
    "exo_pair": Loss(exo_pair, Settings(0.1, 1e-3), "efficient exact optimisation", "arXiv 2402.00856"),
    "nca_pair": Loss(nca_pair, Settings(0.01), "noise-contrastive alignment", "arXiv 2402.05369"),
    "bco_pair": Loss(bco_pair, Settings(0.01), "binary classifier, delta held at 0", "arXiv 2404.04656"),
    "sppo_hard": Loss(sppo_hard, Settings(0.001), "self-play preference optimisation", "arXiv 2405.00675"),
    "apo_zero": Loss(apo_zero, Settings(0.1), "anchored, chosen up", "arXiv 2408.06266"),
    "apo_down": Loss(apo_down, Settings(0.1), "anchored, both down", "arXiv 2408.06266"),
    "discopop": Loss(discopop, Settings(0.05), "discovered blend", "arXiv 2406.08414"),
    "sigmoid_norm": Loss(sigmoid_norm, Settings(5.0), "DPO per token (Tulu 3)", "arXiv 2411.15124"),
    "simpo": Loss(simpo, Settings(2.5, gamma=1.375), "SimPO", "arXiv 2405.14734", needs_reference=False),
    "orpo": Loss(orpo, Settings(0.1), "ORPO", "arXiv 2403.07691", needs_reference=False),
}

# Losses in which one pair changes another's gradient, and how: no clip of a single unit bounds that.
COUPLED: dict[str, str] = {
    "kto": "KTO compares each answer with a divergence estimated from other rows' completions",
    "aot": "AOT sorts the whole batch and compares ranks",
    "aot_pair": "AOT sorts the whole batch and compares ranks",
    "aot_unpaired": "AOT sorts the whole batch and compares ranks",
    "sft": "the SFT mix-in is a mean over all tokens of the batch, so one answer's length scales the others",
}
OPEN_ONLY = ("kto", "aot", "aot_unpaired")  # trained by TRL, in arms without privacy


def check(name: str, private: bool) -> None:
    """Raises UsageError for an unknown loss, or for a loss that couples pairs in a private arm."""
    if name in LOSSES or (name in OPEN_ONLY and not private):
        return
    if name in COUPLED:
        remedy = "train it with --eps inf" if name in OPEN_ONLY else "orpo keeps its own likelihood per pair"
        if name == "aot_pair":
            remedy = "TRL now calls it aot_unpaired, for --eps inf"
        raise UsageError(
            f"grid.dpo: {name}",
            "a loss of one pair only",
            f"a loss that couples pairs: {COUPLED[name]}",
            remedy,
        )
    known = [*LOSSES, *OPEN_ONLY]
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.5)
    raise UsageError(
        f"grid.dpo: {name}",
        f"one of {', '.join(known)}",
        "an unknown loss",
        f"did you mean {close[0]}?" if close else "",
    )


def needs_reference(name: str) -> bool:
    """Whether a pair's log-probabilities under the reference model go into the loss."""
    return name in LOSSES and LOSSES[name].needs_reference  # TRL computes what its own trainers need


def settings_of(name: str, beta: float | None = None, label_smoothing: float | None = None) -> Settings:
    """The settings of a loss: its published ones, except what is given. Smoothing is for losses that have
    one.

    Raises UsageError where the smoothing is out of the loss's range.
    """
    settings = LOSSES[name].settings
    if beta is not None:
        settings = replace(settings, beta=beta)
    if label_smoothing is None or not settings.label_smoothing:
        return settings
    if not (0 <= label_smoothing < 0.5) or (name == "exo_pair" and not label_smoothing):
        raise UsageError(
            "training.dpo_label_smoothing",
            got=f"{label_smoothing:g}",
            expected="above 0 and below 0.5" if name == "exo_pair" else "at least 0 and below 0.5",
        )
    return replace(settings, label_smoothing=label_smoothing)


def check_settings(names: Sequence[str], beta: float | None, label_smoothing: float | None) -> None:
    """Raises UsageError for a smoothing that is out of range, or that none of the losses would use."""
    for name in names:
        if name in LOSSES:
            settings_of(name, beta, label_smoothing)
    smooth = [name for name, loss in LOSSES.items() if loss.settings.label_smoothing]
    if label_smoothing is not None and not set(names) & set(smooth):
        raise UsageError(
            "training.dpo_label_smoothing",
            f"a loss that has this setting ({', '.join(smooth)})",
            ", ".join(names),
        )


def _per_token(log_probs: Tensor, tokens: Tensor) -> Tensor:
    return log_probs / tokens.clamp(min=1)


def _log_odds(log_probs: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p, for p up to the ceiling."""
    capped = log_probs.clamp(max=ORPO_CEILING)
    return capped - torch.log(-torch.expm1(capped))
