"""`kindling chat`: one question, or a conversation until Ctrl-D."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.output import rows_of

Message = dict[str, str]
Row = dict[str, Any]


def chat(
    prompt: Annotated[list[str] | None, typer.Argument(help="Ask this and leave.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A model or an adapter.")] = "",
    system: Annotated[str, typer.Option(help="A system message.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.7,
) -> None:
    """Talk to a model; the answer appears as it is generated."""
    client = Client()
    body = {
        "model": model or _first_model(client),
        "max_tokens": max_tokens,
        "temperature": temperature,
        # A long talk gets shorter answers rather than a refusal.
        "context_length_exceeded_behavior": "truncate",
    }
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    if prompt:
        _ask(client, body, [*messages, {"role": "user", "content": " ".join(prompt)}])
        return
    if sys.stdin.isatty():
        print(f"{body['model']}; Ctrl-D ends the conversation.", file=sys.stderr)
    while True:
        try:
            said = input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if said.strip():
            messages.append({"role": "user", "content": said})
            messages.append({"role": "assistant", "content": _ask(client, body, messages)})


def _ask(client: Client, body: dict[str, object], messages: list[Message]) -> str:
    events = client.stream("/v1/chat/completions", {**body, "messages": messages, "stream": True})
    try:
        return _print(events)
    except CliError as error:
        if error.code != "unsupported_operation":
            raise
    # A base model knows no turns; it goes on with what it reads.
    return _print(
        client.stream("/v1/completions", {**body, "prompt": messages[-1]["content"], "stream": True})
    )


def _print(events: Iterator[dict[str, Any]]) -> str:
    answer = ""
    for event in events:
        for choice in event.get("choices", []):
            text = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
            print(text, end="", flush=True)
            answer += text
    print()
    return answer


def _first_model(client: Client) -> str:
    """One that answers if there is one, a base model rather than an adapter; by name among equals."""
    rows = rows_of(client.get("/v1/models"))
    if not rows:
        raise CliError("No model can be called yet.", "model_not_found")
    running = {str(row["model"]) for row in _rows(client, "/api/v1/deployments") if row["ready_replicas"]}
    silent = {str(row["ref"]) for row in _rows(client, "/api/v1/models") if row["task"] == "embed"}

    def drawbacks(row: Row) -> tuple[bool, ...]:
        base = row.get("base_model") or row.get("alias_of") or row["id"]
        return (base in silent, base not in running, row.get("kind") == "adapter")

    return str(min(rows, key=drawbacks)["id"])


def _rows(client: Client, path: str) -> list[Row]:
    """The rows of a list; none for a key that may not read it."""
    try:
        return client.rows(path)
    except CliError:
        return []
