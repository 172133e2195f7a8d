"""`kindling keys list|create|rotate|revoke`."""

from typing import Annotated

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.output import AsJson, print_rows

app = typer.Typer(no_args_is_help=True, help="API keys of your organisation.")


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key, without its secret."""
    columns = ["id", "name", "prefix", "last4", "scopes", "last_used_at", "revoked_at"]
    print_rows(Client().rows("/api/v1/keys"), columns, as_json=as_json, empty="There is no key.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="inference (if none is given), read, manage, or operator, which only keys that have it can give; "
            "repeat for several. A key may do what its maker's role allows, whatever its scopes."
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it may call; repeat for several.")
    ] = None,
) -> None:
    """Make a key and print it once."""
    made = Client().post("/api/v1/keys", {"name": name, "scopes": scope or ["inference"], "models": model})
    print(made["key"])


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="The id, as `keys list` shows it.")],
    overlap_s: Annotated[int, typer.Option(help="Seconds for which the old key goes on.")] = 86_400,
) -> None:
    """Make a successor with the same rights and limits and print it once; the old key expires."""
    print(Client().post(f"/api/v1/keys/{key_id}/rotate", {"overlap_s": overlap_s})["key"])


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The id, as `keys list` shows it.")]) -> None:
    """Refuse a key from now on."""
    Client().call("DELETE", f"/api/v1/keys/{key_id}")
    print(f"{key_id} is refused from now on.")
