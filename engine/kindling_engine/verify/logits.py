"""Teacher-forced logits and greedy tokens, ours against transformers'."""

import math

import torch
from torch import Tensor

from kindling_engine.verify.ours import Answered
from kindling_engine.verify.result import Check

# Of the largest logit. In half precision both sides round after every layer, each in its own order.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}


def logits_check(ours: list[Tensor], reference: list[Tensor], dtype: torch.dtype) -> Check:
    """|Δlogit| of every position, relative to the largest logit of its prompt."""
    bound = TOLERANCE[dtype]
    errors = []
    for seen, wanted in zip(ours, reference, strict=True):
        if seen.shape != wanted.shape:
            said = f"transformers gives logits of shape {tuple(wanted.shape)}, we give {tuple(seen.shape)}"
            return Check("logits", False, said)
        errors.append(float((seen - wanted).abs().max() / wanted.abs().max()))
    # A NaN would be lost in a maximum.
    worst = math.inf if any(math.isnan(error) for error in errors) else max(errors)
    positions = sum(wanted.shape[0] for wanted in reference)
    said = f"largest |Δlogit| {worst:.1e} × max|ref| over {positions} positions (at most {bound:.0e})"
    return Check("logits", worst <= bound, said, {"worst": worst, "bound": bound, "positions": positions})


def greedy_check(answered: list[Answered], reference: list[Tensor], dtype: torch.dtype) -> Check:
    """Our greedy tokens are transformers' wherever its best leads its second by more than twice the tolerance."""
    compared, unclear = 0, 0
    for index, (one, logits) in enumerate(zip(answered, reference, strict=True)):
        bound = 2 * TOLERANCE[dtype] * float(logits.abs().max())
        for step, token in enumerate(one.answer):
            best = logits[len(one.prompt) - 1 + step].topk(2)
            clear = float(best.values[0] - best.values[1]) > bound
            if clear and token != int(best.indices[0]):
                said = (
                    f"prompt {index + 1}, token {step + 1}: transformers takes {int(best.indices[0])}, "
                    f"we take {token}"
                )
                return Check("greedy", False, said, {"compared": compared})
            compared += clear
            unclear += not clear
    said = f"{compared} tokens equal, {unclear} too close to call"
    return Check("greedy", compared > 0, said, {"compared": compared, "unclear": unclear})
