"""`kindling login`."""

from typing import Annotated

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.credentials import DEFAULT_URL, Credentials, credentials_save


def login(
    url: Annotated[str, typer.Option(help="Address of the platform.")] = DEFAULT_URL,
    key: Annotated[
        str, typer.Option(prompt="API key", hide_input=True, envvar="KINDLING_API_KEY", help="An API key.")
    ] = "",
) -> None:
    """Check an API key and keep it for the other commands."""
    credentials = Credentials(url.rstrip("/"), key.strip())
    who = Client(credentials).get("/api/v1/me")
    path = credentials_save(credentials)
    print(f"Logged in to {credentials.url} as {who['organisation']['name']}; the key is in {path}.")
