"""Turns a pickled adapter into safetensors, offline and apart from everything else; nothing that serves imports it."""
