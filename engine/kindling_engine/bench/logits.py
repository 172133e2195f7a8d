"""How far one model's predictions are from another's."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LogitsDifference:
    """``mean_kl`` in nats, KL(reference ‖ other) over rows; ``flips``: the share of rows whose best token is another.

    ``deviation``: the largest difference of two logits, over the reference's largest.
    """

    mean_kl: float
    flips: float
    deviation: float


def logits_compare(reference: Tensor, logits: Tensor) -> LogitsDifference:
    """Compare ``logits [n, vocab]`` with those of ``reference``, both of any float dtype.

    ``Σ p·(log p − log q)`` is summed in double precision: it is a small difference of large numbers.
    """
    log_p = reference.double().log_softmax(dim=-1)
    kl = (log_p.exp() * (log_p - logits.double().log_softmax(dim=-1))).sum(dim=-1)
    flips = reference.argmax(dim=-1) != logits.argmax(dim=-1)
    largest = (reference.float() - logits.float()).abs().max() / reference.float().abs().max()
    return LogitsDifference(kl.mean().item(), flips.double().mean().item(), float(largest))
