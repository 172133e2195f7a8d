"""`kindling usage`."""

from typing import Annotated, Any

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.output import AsJson, print_rows, rows_of

COLUMNS = (
    "at", "label", "requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens",
    "mean_first_token_ms", "cost_usd",
)  # fmt: skip
HOUR_MS = 3_600_000


def show_usage(
    *,
    by: Annotated[str, typer.Option(help="A row for each model, adapter, key, member or status.")] = "",
    interval: Annotated[
        str, typer.Option(help="A row for each hour, day or month; none for no such rows.")
    ] = "day",
    start: Annotated[
        str, typer.Option("--from", help="The first day or moment; 29 days ago by default.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="The day or moment behind the last one.")] = "",
    tz: Annotated[str, typer.Option(help="The time zone of days and moments.")] = "UTC",
    model: Annotated[str, typer.Option(help="Only these, by name; commas part several.")] = "",
    adapter: Annotated[str, typer.Option(help="Only these; none is the base model alone.")] = "",
    key: Annotated[str, typer.Option(help="Only these, by id.")] = "",
    member: Annotated[str, typer.Option(help="Only keys that these made, by address.")] = "",
    status: Annotated[str, typer.Option(help="Only stop, length, cancelled, grant_refused or error.")] = "",
    compare: Annotated[bool, typer.Option("--compare", help="And the sum of the span before.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Exact rows for a spreadsheet.")] = False,
    requests: Annotated[bool, typer.Option("--requests", help="With --csv: every single request.")] = False,
    as_json: AsJson = False,
) -> None:
    """Requests, tokens, latency and cost, GPU time beside them, and what is left of the balance."""
    client = Client()
    asked: dict[str, str | None] = {
        "group_by": by, "interval": "" if interval == "none" else interval, "from": start, "to": end, "tz": tz,
        "model": model, "adapter": adapter, "key": key, "member": member, "status": status,
    }  # fmt: skip
    if as_csv:
        for text in client.lines("/api/v1/usage/requests.csv" if requests else "/api/v1/usage.csv", **asked):
            print(text, end="")
        return
    if requests:
        raise CliError("--requests writes a file of its own kind: add --csv.", "option_missing")
    answer = client.get("/api/v1/usage", **asked, compare="previous" if compare else None)
    columns = [column for column in COLUMNS if column in _named(answer)]
    print_rows(rows_of(answer), columns, as_json=as_json, empty="Nothing was used in this time.")
    if not as_json:
        _print_end(client, answer)


def _named(answer: dict[str, Any]) -> set[str]:
    """The columns worth showing: what is the same in each row is left out."""
    hidden = set() if answer["group_by"] else {"label"}
    return set(COLUMNS) - hidden - (set() if answer["interval"] else {"at"})


def _print_end(client: Client, answer: dict[str, Any]) -> None:
    print()
    _print_sums("Total:  ", answer)
    if before := answer["previous"]:
        _print_sums("Before: ", before)
    print(f"Balance: ${client.get('/api/v1/balance')['balance_usd']}")


def _print_sums(label: str, period: dict[str, Any]) -> None:
    """What a span cost, and which part of it was requests and which GPU time where there was any."""
    requests, gpu = period["total"], period["gpu_time"]
    said = f"{requests['requests']:,} requests"
    if gpu and gpu["gpu_ms"]:
        hours = gpu["gpu_ms"] / HOUR_MS
        said = f"{said} (${requests['cost_usd']}) and {hours:,.2f} hours of GPU time (${gpu['cost_usd']})"
    print(f"{label} ${period['charged_usd']} for {said}")
