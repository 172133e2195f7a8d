"""`kindling batches` against a gateway: prompts in, answers out, and what happens when something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kindling_batches import CHAT, jsonl, request
from kindling_gateway import GatewayServer
from kindling_platform.cli import batches
from kindling_platform.cli.client import Client
from kindling_platform.cli.credentials import Credentials
from kindling_platform.cli.errors import CliError


@pytest.fixture
def run(server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch):
    """Runs a subcommand; gives what it printed. Errors: CliError."""
    monkeypatch.setattr(batches, "Client", lambda: Client(Credentials(url=server.url, key=scene.key)))
    monkeypatch.setattr(batches, "LOOK_EVERY_S", 0.05)

    def command(*arguments: object) -> str:
        done = CliRunner().invoke(batches.app, [str(one) for one in arguments], catch_exceptions=True)
        if isinstance(done.exception, CliError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return command


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_text_with_a_prompt_in_each_line_is_answered(run, tmp_path: Path, scene):
    file = tmp_path / "prompts.txt"
    file.write_text("One\n\nTwo ü\n")
    said = run("run", file, "-m", "kindling/words", "--max-tokens", 4)
    answers = lines(tmp_path / "prompts.answers.jsonl")
    assert f"wrote {tmp_path / 'prompts.answers.jsonl'}" in said
    assert [line["custom_id"] for line in answers] == ["1", "3"]
    assert answers[0]["response"]["body"]["choices"][0]["message"]["content"].startswith("w1 w2")
    asked = [one.body for one in scene.engine.received if one.body.get("max_tokens") == 4]
    assert {body["messages"][0]["content"] for body in asked} == {"One", "Two ü"}


def test_a_file_of_requests_is_run_and_what_was_refused_stands_beside(run, tmp_path: Path):
    file, wrong = tmp_path / "in.jsonl", request(1, body={"model": "kindling/none", "messages": []})
    file.write_bytes(jsonl([request(0), wrong]))
    run("run", file, "--out", tmp_path / "out.jsonl")
    assert [line["custom_id"] for line in lines(tmp_path / "out.jsonl")] == ["r0"]
    assert [line["custom_id"] for line in lines(tmp_path / "out.errors.jsonl")] == ["r1"]


def test_a_batch_is_begun_looked_at_fetched_and_listed(run, tmp_path: Path, scene):
    file = tmp_path / "in.jsonl"
    file.write_bytes(jsonl([request(n) for n in range(3)]))
    scene.engine.behaviour.held_at = 1
    batch_id = run("run", file, "--no-wait").strip()
    with pytest.raises(CliError) as early:
        run("fetch", batch_id)
    assert early.value.code == "batch_not_over"
    scene.engine.behaviour.held_at = None
    while (shown := json.loads(run("show", batch_id)))["status"] != "completed":
        assert shown["endpoint"] == CHAT
    run("fetch", batch_id, "--out", tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 3
    assert "3 of 3" in run("list")
    assert json.loads(run("list", "--json"))[0]["id"] == batch_id


def test_a_cancelled_batch_says_so(run, tmp_path: Path, scene):
    file = tmp_path / "in.jsonl"
    file.write_bytes(jsonl([request(n) for n in range(3)]))
    scene.engine.behaviour.held_at = 1
    batch_id = run("run", file, "--no-wait").strip()
    assert "cancelling" in run("cancel", batch_id)
    scene.engine.behaviour.held_at = None


def test_what_is_wrong_is_told_by_line(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "in.jsonl"
    file.write_bytes(jsonl([request(0), b"{"]))
    with pytest.raises(CliError) as failed:
        run("run", file)
    assert failed.value.code == "batch_failed"
    assert not (tmp_path / "in.answers.jsonl").exists()
    with pytest.raises(CliError) as missing:
        run("run", tmp_path / "none.jsonl")
    assert missing.value.code == "file_missing"
