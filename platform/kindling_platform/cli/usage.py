"""`kindling usage`."""

from typing import Annotated

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.output import AsJson, print_rows, rows_of


def show_usage(
    group: Annotated[str, typer.Option(help="day, hour, model, key or adapter.")] = "day",
    start: Annotated[str, typer.Option(help="First day, as 2026-01-31.")] = "",
    end: Annotated[str, typer.Option(help="The day after the last.")] = "",
    as_json: AsJson = False,
) -> None:
    """Requests, tokens and cost, and what is left of the balance."""
    client = Client()
    rows = rows_of(client.get("/api/v1/usage", group=group, start=start, end=end))
    columns = ["group", "requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd"]
    print_rows(rows, columns, as_json=as_json, empty="Nothing was used in this time.")
    if not as_json:
        print(f"\nBalance: ${client.get('/api/v1/balance')['balance_usd']}")
