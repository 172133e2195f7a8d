"""The subcommands that talk to the REST API."""

import typer

from kindling_platform.cli import (
    adapters,
    batches,
    bench,
    chat,
    deployments,
    keys,
    limits,
    login,
    models,
    team,
    usage,
)

EPILOG = (
    "Also, for the stack on this machine: up, down, doctor, reset-operator, backup, restore <file>, "
    "models import <hub id or folder>. Elsewhere as well: verify <folder> (a checkpoint against transformers), "
    "adapters convert <folder> (pickled weights to safetensors). Each has a --help."
)

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, epilog=EPILOG,
    help="Models, adapters, batches, deployments, keys, team and usage of your organisation, from the command line.",
)  # fmt: skip
app.command("login")(login.login)
app.command("models")(models.list_models)
app.add_typer(adapters.app, name="adapters")
app.command("chat")(chat.chat)
app.add_typer(batches.app, name="batches")
app.command("usage")(usage.show_usage)
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.add_typer(team.app, name="team")
app.add_typer(deployments.app, name="deployments")
app.add_typer(bench.app, name="bench")
