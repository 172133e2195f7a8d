"""Lends the connection of a request to others while it waits for something that is not the database."""

from django.db import connection


def connection_lend() -> None:
    """Give this thread's connection back to the pool; the next query takes one again.

    Inside a transaction it stays, and so does one that lives in its thread: a session-level lock may hang on it.
    """
    if connection.settings_dict["OPTIONS"].get("pool") and not connection.in_atomic_block:
        connection.close()
