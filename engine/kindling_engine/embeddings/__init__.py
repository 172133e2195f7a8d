"""Texts to vectors: batches without padding, pooling, and the runners behind an embedding model."""
