"""Every module that holds kernels, for what concerns them all: compiling ahead, tuning, measuring."""

from kindling_engine.kernels import activation, norms, paged_decode, rope_kv

MODULES = (activation, norms, paged_decode, rope_kv)
