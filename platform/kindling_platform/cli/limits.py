"""`kindling limits show|set`: of your organisation, of a key or of a member."""

from typing import Annotated, Any

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.output import AsJson, print_rows

app = typer.Typer(
    no_args_is_help=True, help="Limits and budgets of your organisation, its members and its keys."
)
Key = Annotated[str, typer.Option("--key", help="The id of a key; its successors share its limits.")]
Member = Annotated[
    str, typer.Option("--member", help="The id of a member, over all keys that the member has made.")
]
NONE = "none"


@app.command()
def show(key: Key = "", member: Member = "", as_json: AsJson = False) -> None:
    """What is set; what is not shown has no limit of its own."""
    row = Client().get(_path(key, member))
    rows = [{"limit": name, "value": value} for name, value in row.items() if value is not None]
    print_rows(rows, ["limit", "value"], as_json=as_json, empty="There is no limit.")


@app.command("set")
def set_limits(
    values: Annotated[
        list[str],
        typer.Argument(help="For example requests_per_minute=60 budget_month_usd=20; =none lifts one."),
    ],
    key: Key = "",
    member: Member = "",
) -> None:
    """Set limits; those that are not named stay as they are.

    Your organisation's own budgets count requests and GPU time; those of members and keys count requests alone.
    """
    Client().call("PATCH", _path(key, member), dict(_pair(value) for value in values))
    show(key, member)


def _path(key: str, member: str) -> str:
    if key and member:
        raise CliError("Name a key or a member, not both.")
    if key:
        return f"/api/v1/keys/{key}/limits"
    return f"/api/v1/members/{member}/limits" if member else "/api/v1/limits"


def _pair(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given:
        raise CliError(f"Write {text!r} as name=value.")
    if value == NONE:
        return name, None
    return name, value if name.endswith("_usd") else int(value) if value.isdigit() else value
