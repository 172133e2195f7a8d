"""`kindling batches run|list|show|fetch|cancel`: many requests as one piece of work, at the batch price."""

import json
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.output import AsJson, console, print_rows, rows_of
from kindling_platform.cli.program import PROGRAM
from kindling_platform.common.prompt_lines import CHAT, DEFAULT_MAX_TOKENS, requests_of

app = typer.Typer(no_args_is_help=True, help="Batches of your organisation: cheaper, and done within a day.")
PATH, FILES = "/v1/batches", "/v1/files"
LOOK_EVERY_S = 1.0
OVER = ("completed", "failed", "expired", "cancelled")
Which = Annotated[str, typer.Argument(help="Its id, as `run` and `list` say it.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where the answers go.")]


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(help="Requests, one in each line (.jsonl), or one prompt in each line.")
    ],
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The file has prompts, and this answers them.")
    ] = "",
    max_tokens: Annotated[
        int, typer.Option(min=1, help="With --model: tokens of each answer.")
    ] = DEFAULT_MAX_TOKENS,
    endpoint: Annotated[str, typer.Option(help="The route that its requests go to.")] = CHAT,
    out: Out = None,
    wait: Annotated[bool, typer.Option(help="Wait for the answers and write them.")] = True,
) -> None:
    """Begin a batch, watch it, and write its answers beside its file."""
    client = Client()
    content = _prompts(file, model, max_tokens) if model else _read(file)
    given = client.call("POST", FILES, *_form(file.name, content))
    asked = {"input_file_id": given["id"], "endpoint": endpoint, "completion_window": "24h"}
    batch = client.post(PATH, asked)
    print(batch["id"], file=sys.stdout if not wait else sys.stderr)
    if not wait:
        return
    try:
        batch = _watch(client, batch)
    except KeyboardInterrupt:
        print(f"\nIt goes on. Its answers: {PROGRAM} batches fetch {batch['id']}", file=sys.stderr)
        raise typer.Exit(130) from None
    _write(client, batch, out or file.with_suffix(".answers.jsonl"))


@app.command("list")
def list_batches(as_json: AsJson = False) -> None:
    """The newest batches with their states."""
    rows = rows_of(Client().get(PATH, limit="50"))
    told = rows if as_json else [_row(row) for row in rows]
    columns = ["id", "state", "made", "failed", "tokens_out", "begun"]
    print_rows(told, columns, as_json=as_json, empty="There is no batch.")


@app.command()
def show(which: Which) -> None:
    """All that is known of one, as JSON."""
    print(json.dumps(Client().get(f"{PATH}/{which}"), indent=1))


@app.command()
def fetch(which: Which, out: Out = None) -> None:
    """Write the answers of one that is over."""
    client = Client()
    batch = client.get(f"{PATH}/{which}")
    if batch["status"] not in OVER:
        raise CliError(f"This batch is {batch['status'].replace('_', ' ')}.", "batch_not_over")
    _write(client, batch, out or Path(f"{which}.answers.jsonl"))


@app.command()
def cancel(which: Which) -> None:
    """End it with what it has; what was made is charged and can be fetched."""
    batch = Client().post(f"{PATH}/{which}/cancel")
    print(f"{which} is {batch['status']}.")


def _watch(client: Client, batch: dict[str, Any]) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("validating", total=None)
        while batch["status"] not in OVER:
            time.sleep(LOOK_EVERY_S)
            batch = client.get(f"{PATH}/{batch['id']}")
            counts = batch["request_counts"]
            said = f"waits: {batch['waits_for']}" if batch["waits_for"] else batch["status"].replace("_", " ")
            made = counts["completed"] + counts["failed"]
            bar.update(task, description=said, completed=made, total=counts["total"] or None)
    return batch


def _write(client: Client, batch: dict[str, Any], out: Path) -> None:
    """The answers, and beside them what was refused. Errors: CliError where the whole batch has failed."""
    for error in (batch["errors"] or {}).get("data", []):
        where = f"line {error['line']}: " if error["line"] else ""
        print(f"{where}{error['message']}  [{error['code']}]", file=sys.stderr)
    wrong = out.with_name(out.name.replace(".answers", "")).with_suffix(".errors.jsonl")
    for file_id, path in ((batch["output_file_id"], out), (batch["error_file_id"], wrong)):
        if file_id:
            with path.open("w") as written:
                written.writelines(client.lines(f"{FILES}/{file_id}/content"))
            print(f"wrote {path}")
    if batch["status"] != "completed":
        raise CliError(f"The batch is {batch['status']}.", f"batch_{batch['status']}")


def _row(batch: dict[str, Any]) -> dict[str, Any]:
    counts = batch["request_counts"]
    return {
        "id": batch["id"],
        "state": f"waits for {batch['waits_for']}" if batch["waits_for"] else batch["status"],
        "made": f"{counts['completed']} of {counts['total']}",
        "failed": counts["failed"],
        "tokens_out": batch["usage"]["output_tokens"],
        "begun": datetime.fromtimestamp(batch["created_at"], UTC).isoformat(),
    }


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.", "file_missing") from error


def _prompts(file: Path, model: str, max_tokens: int) -> bytes:
    """A request for each line that is not empty; its `custom_id` is the line's number."""
    try:
        text = _read(file).decode()
    except UnicodeDecodeError:
        raise CliError(f"{file} is not a text in UTF-8.", "file_invalid") from None
    return requests_of(text, model=model, max_tokens=max_tokens)


def _form(name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """A form with one file, and the headers that go with it."""
    boundary = secrets.token_hex(16)
    quoted = name.replace('"', "'").replace("\r", "").replace("\n", "")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
