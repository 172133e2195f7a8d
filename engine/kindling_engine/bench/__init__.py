"""Measurements of the engine, run as processes of their own: ``python -m kindling_engine bench <name>``."""
