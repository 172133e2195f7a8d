"""Triton kernels, each beside its reference in plain torch. Imported where a GPU is, and by the tests."""
