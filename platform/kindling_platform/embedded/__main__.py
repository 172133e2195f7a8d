"""`python -m kindling_platform.embedded`: what `./kindling` runs for up, down, doctor and their like."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.progress import Progress

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True, help="Models of this machine.")
bench = typer.Typer(no_args_is_help=True, help="Measure the platform on this machine.")
app.add_typer(models, name="models")
app.add_typer(bench, name="bench")
AsJson = Annotated[bool, typer.Option("--json", help="The last line on standard output is one JSON object.")]

PassphraseFile = Annotated[
    Path | None, typer.Option(help="Its first line seals the backup; or KINDLING_BACKUP_PASSPHRASE.")
]


@app.command()
def up(
    model: Annotated[str, typer.Option(help="Serve this first: a hub id or a folder.")] = "",
    weights: Annotated[
        str,
        typer.Option(
            help="How its weights lie in memory: checkpoint, as they come; fp16 or int8wo on a CPU; fp8 on a Hopper "
            "GPU. Left out, a deployment keeps its form."
        ),
    ] = "",
    kv_dtype: Annotated[
        str,
        typer.Option(
            help="What keys and values are kept as: auto, as it computes, or fp8, a byte each. Left out, a deployment "
            "keeps what it has."
        ),
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Start a throw-away stack twice; time it.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="With --check: the last line on standard output is one JSON object."),
    ] = False,
) -> None:
    """Start everything in the foreground; Ctrl-C stops it."""
    from kindling_platform.embedded.check import check_run
    from kindling_platform.embedded.supervisor import Supervisor

    wanted = model or os.environ.get("KINDLING_MODEL", "")
    if wanted:
        # The children run in the state folder, where a relative path would mean something else.
        folder = Path(wanted).expanduser()
        os.environ["KINDLING_MODEL"] = str(folder.resolve()) if folder.is_dir() else wanted
    if weights:
        os.environ["KINDLING_WEIGHTS"] = weights
    if kv_dtype:
        os.environ["KINDLING_KV_DTYPE"] = kv_dtype
    if check:
        print_figures("up", check_run(), as_json=as_json)
        return
    progress = Progress()
    try:
        Supervisor(Home.from_environ(), progress).run()
    except EmbeddedError as error:
        progress.fail(error.code, error.message)
        raise typer.Exit(1) from None
    except OSError as error:
        progress.fail("start_failed", f"The operating system refused something that a start needs: {error}.")
        raise typer.Exit(1) from None


@app.command()
def down() -> None:
    """Stop what `up` started on this state folder."""
    from kindling_platform.embedded.down import stack_stop

    home = Home.from_environ()
    print("Stopped." if stack_stop(home) else f"Nothing runs on {home.path}.")


@app.command()
def doctor() -> None:
    """Look for what is wrong and say what to do about it."""
    from kindling_platform.embedded.doctor import doctor_run

    findings = doctor_run(Home.from_environ())
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "what was seen"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row("[green]✓[/]" if finding.good else "[red]✗[/]", finding.check, finding.seen)
    console = Console(highlight=False)
    console.print(table)
    problems = [finding for finding in findings if not finding.good]
    for finding in problems:
        console.print(f"\n{finding.check}: {finding.advice}", markup=False)
    raise typer.Exit(1 if problems else 0)


@app.command("reset-operator")
def reset_operator() -> None:
    """Give the operator a new password and print it once."""
    from kindling_platform.embedded.operator_login import operator_reset

    email, password = operator_reset(Home.from_environ())
    print(f"Operator  {email}\nPassword  {password}")


@app.command()
def backup(
    output: Annotated[Path | None, typer.Option(help="The file to write; default: in HOME/backups.")] = None,
    passphrase_file: PassphraseFile = None,
    keep: Annotated[int, typer.Option(min=0, help="Keep only so many in HOME/backups; 0 keeps all.")] = 0,
) -> None:
    """Write database, secrets, adapter files and the usage log into one file, beside a running stack."""
    from kindling_platform.embedded.backups.backup import backup_make
    from kindling_platform.embedded.backups.ending import signals_end

    phrase = passphrase_read(passphrase_file)
    with signals_end():
        file = backup_make(Home.from_environ(), target=output, passphrase=phrase, keep=keep)
    print(f"{file}  {file.stat().st_size:,} bytes, {'sealed' if phrase else 'NOT sealed: it holds secrets'}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")], passphrase_file: PassphraseFile = None
) -> None:
    """Make an installation of a backup, in an empty state folder, and prove its books."""
    from kindling_platform.embedded.backups.restore import backup_restore

    home = Home.from_environ()
    proof = backup_restore(home, file.expanduser().resolve(), passphrase=passphrase_read(passphrase_file))
    print(f"Restored into {home.path}; {len(proof['checks'])} checks of the books found nothing.")


@models.command("import")
def models_import(
    model: Annotated[
        str, typer.Argument(help="A hub id, such as HuggingFaceTB/SmolLM2-135M-Instruct, or a folder.")
    ],
    name: Annotated[
        str, typer.Option(help="Its name in the catalog; default: the last part of the id.")
    ] = "",
    revision: Annotated[str, typer.Option(help="A commit, branch or tag; default: main, once.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the hub, or take a folder, and enter it into this machine's catalog."""
    from kindling_platform.embedded.model_import import imported_json, model_bring

    made = model_bring(Home.from_environ(), model, name=name, revision=revision)
    if as_json:
        print(imported_json(made))
        return
    print(f"{made.architecture}, {made.parameters:,} parameters, in {made.folder}")
    if made.commit:
        print(f"Commit {made.commit}")
    print(
        f"{made.ref} is in the catalog: deploy it in the console."
        if made.ref
        else f"Start with it: ./kindling up --model {model}"
    )


@bench.command("upload")
def bench_upload(
    quick: Annotated[bool, typer.Option("--quick", help="Three uploads of a megabyte alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time from the start of an adapter's upload to its first token."""
    from kindling_platform.embedded.bench_upload import upload_bench

    print_figures("upload", upload_bench(Home.from_environ(), quick=quick), as_json=as_json)


@bench.command("gateway")
def bench_gateway(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer requests; a minute instead of many.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Install the peers that are missing.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Memory alone, over all requests.")] = False,
    as_json: AsJson = False,
) -> None:
    """CPU, latency and memory of the gateway before an engine that costs nothing."""
    from kindling_platform.embedded.bench_gateway.bench import gateway_bench

    figures = gateway_bench(Home.from_environ(), quick=quick, peers=peers, memory_alone=memory)
    print_figures("gateway", figures, as_json=as_json)


@bench.command("reliability")
def bench_reliability(
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything.")] = False,
    part: Annotated[
        str, typer.Option(help="Only this: times, cuts, limits, outages or kills; default: all.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take servers away and kill processes under load on a throw-away stack; time it and check the books."""
    from kindling_platform.embedded.bench_reliability.bench import figures_flat, reliability_bench

    found = reliability_bench(quick=quick, part=part)
    print_figures("reliability", figures_flat(found), as_json=as_json, whole=found)


@bench.command("rating")
def bench_rating(
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the million events.")] = False,
    device: Annotated[str, typer.Option("--device", help="There is only cpu.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Post a month to a ledger of its own, invoice it, rate it anew, and compare every sum."""
    from kindling_platform.embedded.bench_rating import rating_bench

    if device != "cpu":
        raise EmbeddedError("device_invalid", "Books are kept on a CPU: --device cpu.")
    sys.exit(rating_bench(quick=quick, as_json=as_json))


@bench.command("usage")
def bench_usage(
    quick: Annotated[bool, typer.Option("--quick", help="200,000 requests instead of ten million.")] = False,
    as_json: AsJson = False,
) -> None:
    """How long the pages about usage take, on a throw-away database full of requests."""
    from kindling_platform.embedded.bench_usage.bench import usage_bench

    found = usage_bench(quick=quick)
    figures = {name: value for name, value in found.items() if isinstance(value, (int, float))}
    figures |= {page["address"]: page["p95_ms"] for page in found["pages"]}
    print_figures("usage", figures, as_json=as_json, whole=found)


def passphrase_read(file: Path | None) -> str:
    """The passphrase of the file, else of the environment, else none. Errors: `passphrase_missing`."""
    if file is None:
        return os.environ.get("KINDLING_BACKUP_PASSPHRASE", "")
    try:
        phrase = file.read_text().split("\n", 1)[0].strip()
    except OSError as error:
        raise EmbeddedError("passphrase_missing", f"{file} cannot be read ({error.strerror}).") from error
    if not phrase:
        raise EmbeddedError("passphrase_missing", f"The first line of {file} is empty.")
    return phrase


def print_figures(
    name: str, figures: Mapping[str, float | None], *, as_json: bool, whole: dict[str, Any] | None = None
) -> None:
    table = Table("figure", name, box=None, pad_edge=False)
    for key, value in figures.items():
        table.add_row(key, "none" if value is None else f"{value:g}")
    Console(highlight=False, stderr=as_json).print(table)
    if as_json:
        print(json.dumps(whole or figures))


def main() -> None:
    # A terminal that knows no ✓ shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app(prog_name="./kindling")
    except EmbeddedError as error:
        print(f"{error.message}  [{error.code}]", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
