"""`kindling deployments`: what runs, is made, changed, started and stopped, and set back to what it was."""

from typing import Annotated, Any

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.output import AsJson, print_rows, rows_of
from kindling_platform.cli.program import PROGRAM

app = typer.Typer(no_args_is_help=True, help="Deployments of your organisation.")
PATH = "/api/v1/deployments"
Which = Annotated[str, typer.Argument(help="Its name, or its id.")]
Replicas = Annotated[int | None, typer.Option(help="How many engines run at once.")]
Weights = Annotated[
    str | None, typer.Option(help="How weights lie in memory: checkpoint, fp16, int8wo or fp8.")
]
KvDtype = Annotated[
    str | None,
    typer.Option(help="What keys and values are kept as: auto, as it computes, or fp8, a byte each."),
]


@app.command("list")
def list_deployments(as_json: AsJson = False) -> None:
    """Every deployment with its state."""
    columns = ["name", "model", "state", "ready_replicas", "desired_replicas", "weights", "reason"]
    print_rows(Client().rows(PATH), columns, as_json=as_json, empty="There is no deployment.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")],
    model: Annotated[str, typer.Argument(help=f"The model, as `{PROGRAM} models` shows it.")],
    *,
    replicas: Replicas = None,
    weights: Weights = None,
    kv_dtype: KvDtype = None,
    organisation: Annotated[
        str | None, typer.Option(help="Whose it is, by slug or id; it pays for its hours.")
    ] = None,
) -> None:
    """Make a deployment and start it; of a model that is open to that, within the replicas that you are allowed."""
    given = {"replicas": replicas, "weights": weights, "kv_dtype": kv_dtype, "organisation": organisation}
    _tell(Client().post(PATH, {"name": name, "model": model} | _without_none(given)))


@app.command()
def change(
    which: Which, replicas: Replicas = None, weights: Weights = None, kv_dtype: KvDtype = None
) -> None:
    """Change how many replicas it has, while it runs, or the form of its weights, keys and values, for which it starts
    anew.

    What the operator made for you, the operator changes; you start, stop and delete it.
    """
    changes = _without_none({"replicas": replicas, "weights": weights, "kv_dtype": kv_dtype})
    if not changes:
        raise CliError("Say what to change: --replicas, --weights or --kv-dtype.", "nothing_to_change")
    client = Client()
    _tell(client.call("PATCH", f"{PATH}/{_id(client, which)}", changes))


@app.command()
def start(which: Which) -> None:
    """Ask for it to run."""
    client = Client()
    _tell(client.post(f"{PATH}/{_id(client, which)}/start"))


@app.command()
def stop(which: Which) -> None:
    """Ask for it to stop; running requests finish first."""
    client = Client()
    _tell(client.post(f"{PATH}/{_id(client, which)}/stop"))


@app.command()
def delete(which: Which) -> None:
    """Stop it for good; running requests finish first, and its name is free."""
    client = Client()
    client.call("DELETE", f"{PATH}/{_id(client, which)}")
    print(f"{which} is deleted.")


@app.command()
def events(which: Which, as_json: AsJson = False) -> None:
    """What happened to it, newest first."""
    client = Client()
    rows = rows_of(client.get(f"{PATH}/{_id(client, which)}/events"))
    print_rows(rows, ["created_at", "kind", "message"], as_json=as_json, empty="Nothing happened yet.")


@app.command()
def revisions(which: Which, as_json: AsJson = False) -> None:
    """What it was set to, by whom and when, newest first."""
    client = Client()
    rows = rows_of(client.get(f"{PATH}/{_id(client, which)}/revisions"))
    columns = ["number", "model", "replicas", "weights", "kv_dtype", "created_by", "created_at", "is_current"]
    print_rows(rows, columns, as_json=as_json, empty="Nothing was set yet.")


@app.command()
def restore(
    which: Which,
    revision: Annotated[
        int, typer.Argument(help=f"Its number, as `{PROGRAM} deployments revisions` shows it.")
    ],
) -> None:
    """Set it to what it was in an earlier revision, as a new one."""
    client = Client()
    _tell(client.post(f"{PATH}/{_id(client, which)}/restore", {"revision": revision}))


@app.command()
def allowance() -> None:
    """How many replicas of deployments that you make yourselves may run."""
    row = Client().get(f"{PATH}/allowance")
    print(f"{row['running']} of {row['replicas']} replicas run; {row['left']} more may.")
    if row["runs_on"]:
        print(f"They run on {row['runs_on']}.")


@app.command()
def logs(which: Which) -> None:
    """What its replicas have said lately."""
    client = Client()
    for row in rows_of(client.get(f"{PATH}/{_id(client, which)}/logs")):
        print(f"== {row['name']}")
        print(row["problem"] or row["text"] or "It has said nothing yet.")


def _id(client: Client, which: str) -> str:
    found = [row["id"] for row in client.rows(PATH) if which in (row["id"], row["name"])]
    if not found:
        raise CliError(
            f"There is no deployment {which!r}; `{PROGRAM} deployments list` shows yours.", "not_found"
        )
    return str(found[0])


def _tell(row: dict[str, Any]) -> None:
    replicas = f"{row['ready_replicas']} of {row['desired_replicas']} replicas ready"
    print(f"{row['name']} is {row['state']}, {replicas}, asked to be {row['desired_state']}.")


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
