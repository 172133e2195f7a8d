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
