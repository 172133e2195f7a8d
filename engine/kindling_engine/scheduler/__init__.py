"""Continuous batching: what runs in the next step. Knows nothing of HTTP, sockets or tensors."""
