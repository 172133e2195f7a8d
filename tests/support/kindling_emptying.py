"""Empties the database between transactional tests: the rows that are there, not all tables that might hold some."""

from django.db import connection
from django.test import TransactionTestCase

# What migrations wrote and no test changes; Django empties and makes them anew after each test.
KEPT = {"django_content_type", "auth_permission"}


def emptying_install() -> None:
    """Replace what Django does after a transactional test; a database user without the right keeps Django's way.

    Truncating seventy tables makes as many new files, and took longer than most of the tests behind it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW is_superuser")
        allowed = cursor.fetchone()[0] == "on"
    if allowed:
        TransactionTestCase._fixture_teardown = lambda _case: rows_delete()


def rows_delete() -> None:
    """Delete every row but those of `KEPT`, past foreign keys and past the triggers that guard the books."""
    tables = sorted(
        set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT
    )
    names = {table: connection.ops.quote_name(table) for table in tables}
    look = " UNION ALL ".join(f"(SELECT '{table}' FROM {name} LIMIT 1)" for table, name in names.items())
    with connection.cursor() as cursor:
        cursor.execute(look)
        filled = [table for (table,) in cursor.fetchall()]
    if filled:
        deletes = [f"DELETE FROM {names[table]}" for table in filled]
        connection.ops.execute_sql_flush(["SET LOCAL session_replication_role = replica", *deletes])
