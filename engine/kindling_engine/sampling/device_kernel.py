"""The sampling kernel in the form that ``sampling.device`` calls."""

from collections.abc import Callable

from torch import Tensor

from kindling_engine.kernels.sampling import Sampled, SampleRows, sample
from kindling_engine.sampling.sampler import NO_TOKEN


def kernel_sample(
    logits: Tensor, *columns: Tensor, draw: Callable[[Tensor, SampleRows], Sampled] = sample
) -> Tensor:
    """Tokens int64 ``[m]``; ``columns`` in the order of ``SampleRows``."""
    sampled = draw(logits, SampleRows(*columns))
    # The log-probability of a row whose logits are not finite is NaN.
    tokens: Tensor = sampled.tokens.masked_fill(~sampled.logprobs.isfinite(), NO_TOKEN)
    return tokens
