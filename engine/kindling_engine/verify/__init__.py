"""Compares a real checkpoint, as it is served here, with transformers."""
