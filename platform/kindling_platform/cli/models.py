"""`kindling models`."""

from kindling_platform.cli.client import Client
from kindling_platform.cli.output import AsJson, print_rows, rows_of


def list_models(as_json: AsJson = False) -> None:
    """The models and adapters that you can call.

    `models import <hub id or folder>` brings a model onto this machine and into its catalog.
    """
    rows = rows_of(Client().get("/v1/models"))
    print_rows(rows, ["id", "owned_by"], as_json=as_json, empty="No model can be called yet.")
