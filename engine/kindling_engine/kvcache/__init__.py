"""Paged KV cache: who owns which block, which blocks hold a known prefix, and the tensors behind them."""
