"""The names of the forms that a model's weights can take in memory."""

CHECKPOINT = "checkpoint"
"""As the checkpoint has them, in the dtype that the device computes in."""
INT8 = "int8wo"
"""Eight bits with a scale per output channel; activations, products and sums stay fp32 ("weight-only")."""

HALF = "fp16"
"""Sixteen bits; activations, products and sums stay fp32."""

FP8 = "fp8"
"""e4m3 with a scale per output channel; activations are made e4m3 token by token in front of each product."""

WEIGHT_FORMS = (CHECKPOINT, HALF, INT8, FP8)
