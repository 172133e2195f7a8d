"""Turns a step plan into tensors, runs the model and draws tokens."""
