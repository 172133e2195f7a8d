"""`kindling adapters push|import|list|check|convert`; the last is the engine's."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.forward import forward, forward_argv
from kindling_platform.cli.output import AsJson, console, print_rows, rows_of
from kindling_platform.cli.program import PROGRAM

if TYPE_CHECKING:
    from kindling_engine.protocol.adapter_files import BaseShape
    from kindling_platform.cli.moving_in import Found, Outcome

# This module is loaded by each command of any name: what takes long to load is loaded where it is used.

app = typer.Typer(no_args_is_help=True, help="LoRA adapters of your organisation.")
Folder = Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A PEFT folder.")]
Base = Annotated[str, typer.Option(help=f"The base model, as `{PROGRAM} models` names it.")]
MARKS = {"pass": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}


@app.command("list")
def list_adapters(as_json: AsJson = False) -> None:
    """Every adapter and its state."""
    columns = ["id", "name", "base_model", "state", "rank", "size_bytes", "error"]
    print_rows(Client().rows("/api/v1/adapters"), columns, as_json=as_json, empty="There is no adapter.")


@app.command()
def push(
    folder: Folder, name: Annotated[str, typer.Option(help="Default: the folder's.")] = "", base: Base = ""
) -> None:
    """Upload a folder, wait for its checks, and say how to call it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from kindling_platform.cli.upload import adapter_upload

    client = Client()
    base = base or _only_base(client)
    name = name or re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-")
    bar = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console)
    with bar:
        task = bar.add_task(name, total=None)
        adapter = adapter_upload(
            client, folder=folder, name=name, base=base,
            say=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    print_findings((adapter.get("report") or {}).get("findings", []))
    if adapter["state"] == "rejected":
        raise CliError(
            adapter.get("error") or "The adapter was rejected.", adapter.get("error_code") or "rejected"
        )
    slug = client.get("/api/v1/me")["organisation"]["slug"]
    print(f"\n{slug}/{name} is ready.  Try: {PROGRAM} chat -m {slug}/{name}")


@app.command("import")
def import_adapters(
    source: Annotated[
        Path,
        typer.Argument(exists=True, help="A folder of PEFT folders, or a file with a hub id on each line."),
    ],
    base: Base = "",
    alias: Annotated[
        str,
        typer.Option(help="Also let clients use this name, e.g. 'accounts/fireworks/models/{name}'."),
    ] = "",
) -> None:
    """Bring in many adapters under their names; run again after a cut, it goes on where it stopped."""
    from tempfile import TemporaryDirectory

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from kindling_platform.cli.moving_in import adapters_find, adapters_import, hub_adapters_fetch

    if alias and "{name}" not in alias:
        raise CliError("An alias for many adapters needs {name} in it.", "alias_invalid")
    client = Client()
    base = base or _only_base(client)
    with TemporaryDirectory(prefix="kindling-import-") as scratch:
        found = adapters_find(source) if source.is_dir() else hub_adapters_fetch(source, Path(scratch))
        outcomes: list[Outcome] = []
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
        ) as bar:
            task = bar.add_task("adapters", total=len(found))

            def say(one: "Found", done: int, total: int) -> None:
                bar.update(task, description=f"{one.name} {done * 100 // max(total, 1)} %")

            for outcome in adapters_import(client, found, base=base, alias=alias, say=say):
                outcomes.append(outcome)
                bar.update(task, description=outcome.name, advance=1)
    rows = [{"from": o.called, "name": o.name, "state": o.state, "reason": o.reason} for o in outcomes]
    print_rows(rows, ["from", "name", "state", "reason"], as_json=False, empty="Nothing to import.")
    bad = [outcome for outcome in outcomes if outcome.state in {"rejected", "failed"}]
    if bad:
        raise CliError(f"{len(bad)} of {len(outcomes)} adapters did not come in.", "import_incomplete")


@app.command()
def check(folder: Folder, base: Base = "") -> None:
    """Run the checks of an upload here, without uploading anything: all but those that need an engine."""
    from kindling_engine.protocol.adapter_extras import check_extras
    from kindling_engine.protocol.adapter_files import check_adapter_folder

    client = Client()
    ref = base or _only_base(client)
    facts = client.get(f"/api/v1/models/{ref}")
    shape = base_shape(ref, facts)
    report = check_adapter_folder(folder, shape)
    check_extras(report, folder, shape)
    if report.ok:
        from kindling_engine.protocol.adapter_values import check_adapter_values

        check_adapter_values(report, folder)
    print_findings(
        [{"check": f.check, "level": f.level, "message": f.message, "fix": f.fix} for f in report.findings]
    )
    failed = next((finding for finding in report.findings if finding.level == "fail"), None)
    if failed:
        raise CliError(f"An upload would be rejected: {failed.message}", failed.check)
    # Which layers other models have, only an engine knows.
    said = f"nothing here speaks against {ref}" if shape.open else f"fits {ref}"
    print(f"\nRank {report.rank}, {report.parameters:,} parameters, {report.dtype}: {said}.")
    print("After an upload an engine answers with it, too, and says how far it moves the base's choices.")


@app.command()
def convert(
    folders: Annotated[list[Path], typer.Argument(help="Folders with an adapter_model.bin.")],
) -> None:
    """Make safetensors of pickled weights, in a process that reads weights and nothing else."""
    forward(forward_argv(["adapters", "convert", *map(str, folders)]) or [])


def print_findings(findings: list[dict[str, Any]]) -> None:
    for finding in findings:
        console.print(f"{MARKS.get(finding['level'], ' ')} {finding['check']:<20}", end=" ")
        console.print(finding["message"], markup=False)
        if finding.get("fix") and finding["level"] != "pass":
            console.print(f"  {'':<20} {finding['fix']}", markup=False)


def base_shape(ref: str, facts: dict[str, Any]) -> "BaseShape":
    """The sizes in the API's description of a model."""
    from kindling_engine.protocol.adapter_files import BaseShape

    return BaseShape.of_catalog(
        facts["shapes"],
        architecture=facts["architecture"],
        vocab_size=facts["vocab_size"],
        ref=ref,
        vocabulary_hash=facts.get("vocabulary_hash", ""),
    )


def _only_base(client: Client) -> str:
    refs = [str(row["ref"]) for row in rows_of(client.get("/api/v1/models"))]
    if len(refs) == 1:
        return refs[0]
    raise CliError(
        f"Which base? Name one with --base: {', '.join(refs) or 'there is none yet'}.", "base_missing"
    )
