"""Tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
# Programs that read a table want a row on a line.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
IDS = {"id", "ref"}


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Print the named columns of each row, or everything as JSON."""
    if as_json:
        print(json.dumps(list(rows), indent=1))
        return
    if not rows:
        print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # What is typed again elsewhere stands on one line.
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column in IDS)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    console.print(table)


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """The rows of a list answer, whether or not it comes in pages."""
    rows = answer.get("data", answer.get("results")) if isinstance(answer, dict) else answer
    return list(rows or [])
