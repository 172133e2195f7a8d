"""Kernels for this machine's processor, written as LLVM's intermediate code and compiled when the engine starts."""
