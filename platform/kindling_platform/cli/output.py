"""Tables for people, JSON for programs."""

import json
import re
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
MOMENT = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)T(?P<time>\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)")


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
        table.add_row(*(words_of(row.get(column)) for column in columns))
    console.print(table)


def words_of(value: Any) -> str:
    """What a table says for a value of the API's: nothing for none, a list's items, a moment to the second."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(words_of, value))
    if isinstance(value, str) and (moment := MOMENT.fullmatch(value)):
        return f"{moment['day']} {moment['time']} UTC"
    return str(value)


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """The rows of a list answer, whether or not it comes in pages."""
    rows = answer.get("data", answer.get("results")) if isinstance(answer, dict) else answer
    return list(rows or [])
