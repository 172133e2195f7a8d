"""Celery tasks: each takes its turn, calls one function and returns nothing."""
