"""Talking to a model that has no chat template: what was typed is gone on with."""

from collections.abc import Iterator
from typing import Any

import pytest

from kindling_platform.cli import chat as room
from kindling_platform.cli.errors import CliError


class BaseModel:
    """A server whose model completes text and does not chat."""

    def __init__(self, code: str = "unsupported_operation") -> None:
        self.code = code
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self.asked.append((path, body))
        if path == "/v1/chat/completions":
            raise CliError("This model has no chat template; use /v1/completions.", self.code)
        yield {"choices": [{"text": " jumped"}]}
        yield {"choices": [{"text": "."}]}
        yield {"choices": [], "usage": {}}


def ask(model: BaseModel, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(room, "Client", lambda: model)
    room.chat(prompt=list(words), model="kindling/base", system="", max_tokens=8, temperature=0.5)


def test_a_base_model_goes_on_with_the_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    model = BaseModel()
    ask(model, monkeypatch, "The", "fox")
    assert capsys.readouterr().out == " jumped.\n"
    path, body = model.asked[-1]
    assert (path, body["prompt"], body["model"], body["max_tokens"]) == (
        "/v1/completions", "The fox", "kindling/base", 8,
    )  # fmt: skip
    assert "messages" not in body


def test_another_refusal_stays_one(monkeypatch: pytest.MonkeyPatch):
    model = BaseModel(code="model_not_found")
    with pytest.raises(CliError) as refused:
        ask(model, monkeypatch, "The fox")
    assert refused.value.code == "model_not_found" and len(model.asked) == 1


class Listing:
    """A server with models and deployments; `closed` for a key that may only infer."""

    def __init__(self, models: list[dict[str, Any]], running: list[str], *, closed: bool = False) -> None:
        self._models, self._running, self._closed = models, running, closed

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/models"
        return {"data": self._models}

    def rows(self, path: str) -> list[dict[str, Any]]:
        if self._closed:
            raise CliError("This key may not read.", "forbidden")
        if path == "/api/v1/models":
            return [{"ref": "kindling/bert", "task": "embed"}, {"ref": "kindling/a", "task": "generate"}]
        return [
            {"model": "kindling/a", "ready_replicas": 0},
            *({"model": model, "ready_replicas": 1} for model in self._running),
        ]


def listed(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "kind": "base", "base_model": None, "alias_of": None} | fields


A, ADAPTER, BERT, SPARK = (
    listed("kindling/a"), listed("ada/tuned", kind="adapter", base_model="kindling/a"),
    listed("kindling/bert"), listed("kindling/spark"),
)  # fmt: skip
ALL = [ADAPTER, A, BERT, SPARK]
ALIAS = listed("fast", alias_of="kindling/spark")


@pytest.mark.parametrize(
    ("models", "running", "first"),
    [
        (ALL, ["kindling/spark"], "kindling/spark"),
        (ALL, ["kindling/bert", "kindling/spark"], "kindling/spark"),
        (ALL, ["kindling/a", "kindling/spark"], "kindling/a"),
        (ALL, [], "kindling/a"),
        (ALL, None, "kindling/a"),
        ([ADAPTER, BERT, SPARK], ["kindling/a"], "ada/tuned"),
        ([A, ALIAS], ["kindling/spark"], "fast"),
    ],
)
def test_a_talk_begins_with_a_model_that_runs_and_is_none_of_the_adapters(
    models: list[dict[str, Any]], running: list[str] | None, first: str
):
    client = Listing(models, running or [], closed=running is None)
    assert room._first_model(client) == first  # type: ignore[arg-type]


def test_without_a_model_there_is_no_talk():
    with pytest.raises(CliError, match="No model"):
        room._first_model(Listing([], []))  # type: ignore[arg-type]
