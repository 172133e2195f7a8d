"""Every module that holds kernels, for what concerns them all: compiling ahead, tuning, measuring."""

from kindling_engine.kernels import activation, norms, rope_kv

MODULES = (activation, norms, rope_kv)
