"""The sampling kernel in the form that ``sampling.device`` calls."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from kindling_engine.kernels.sampling import SampleRows, sample
from kindling_engine.sampling.sampler import NO_TOKEN


def kernel_sample(
    logits: Tensor, *columns: Tensor, draw: Callable[[Tensor, SampleRows], Any] = sample
) -> Tensor:
    """Tokens int64 ``[m]``; ``columns`` in the order of ``SampleRows``."""
    sampled = draw(logits, SampleRows(*columns))
    # The log-probability of a row whose logits are not finite is NaN.
    return sampled.tokens.masked_fill(~sampled.logprobs.isfinite(), NO_TOKEN)
