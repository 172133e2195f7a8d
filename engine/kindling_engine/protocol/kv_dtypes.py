"""The names of what keys and values can be kept as in the cache."""

AUTO = "auto"
"""In the dtype that the model computes in: bf16 on a GPU, fp32 on a CPU."""

FP8 = "fp8"
"""As e4m3, a byte each, with a scale for the keys and one for the values of each layer and KV head."""

KV_DTYPES = (AUTO, FP8)
