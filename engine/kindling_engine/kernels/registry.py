"""Every module that holds kernels, for what concerns them all: compiling ahead, tuning, measuring."""

from kindling_engine.kernels import activation, norms

MODULES = (activation, norms)
