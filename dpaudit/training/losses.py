"""Loss functions of one example each. None couples two examples, so that a unit's gradient can be clipped alone."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

# (log-probability of the chosen answer, of the rejected one, the two under the reference model, beta) -> loss.
# Every tensor has shape (pairs,); log-probabilities are sums over the answer's tokens, in nats.
PairLoss = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def sft(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood of each record's own answer tokens, in nats.

    `log_probs` (records,) sums over a record's answer tokens, `tokens` (records,) counts them. The mean is per
    record and not per batch: a batch mean would let one record's length change another's gradient. A record
    whose answer was cut off entirely has loss 0.
    """
    return -log_probs / tokens.clamp(min=1)


def sigmoid(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """-log sigmoid(beta * (policy margin - reference margin)) of each pair.

    Source: Rafailov et al. 2023 (arXiv 2305.18290), equation 7.
    """
    return -functional.logsigmoid(beta * ((chosen - rejected) - (reference_chosen - reference_rejected)))


LOSSES: dict[str, PairLoss] = {"sigmoid": sigmoid}
