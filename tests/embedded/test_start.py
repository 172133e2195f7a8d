"""What a start makes fatal, what it only tells, and what it waits for, with children that are names alone."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kindling_platform.embedded import supervisor as room
from kindling_platform.embedded.__main__ import app
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.first_token import PATHS, FirstToken, example_body
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.process import Command
from kindling_platform.embedded.progress import Progress
from kindling_platform.embedded.supervisor import Supervisor
from kindling_platform.embedded.throwaway import Throwaway

FACTS = {
    "operator_email": "o@example.com", "operator_password": None, "model": "kindling/spark", "surface": "chat",
    "deployment_id": "dep_1", "weights": "checkpoint", "kv_dtype": "auto", "api_key": "kd_live_made_anew",
    "also_running": {}, "adapters_unchecked": 0,
}  # fmt: skip


class NamedChild:
    """A child that writes down when it was started."""

    def __init__(self, name: str, home: Home, happened: list[str]) -> None:
        self._name, self._happened = name, happened
        self.command = Command(name=name, argv=(), env={}, log_path=home.log(name))
        self.pid = 1

    def start(self) -> None:
        self._happened.append(self._name)

    def tend(self) -> bool:
        return False


class Start:
    """A supervisor whose steps outside of it all go well, unless a test says otherwise."""

    def __init__(self, home: Home, patch: pytest.MonkeyPatch) -> None:
        self.home, self.patch, self.happened, self.out = home, patch, list[str](), io.StringIO()
        progress = Progress()
        progress.console = Console(file=self.out, width=300)
        self.supervisor = Supervisor(home, progress)
        self.keys: list[str] = []
        self.surfaces: list[str] = []
        env = SimpleNamespace(
            host="127.0.0.1", port=1, public_url="http://localhost:1", agent_url="", agent_token="", database_url="",
            redis_url="",
        )  # fmt: skip
        servers = SimpleNamespace(
            postgres=None,
            own_check=lambda **_: None,
            launch=lambda: None,
            children=lambda: {},
            wait_ready=lambda: None,
        )
        self.set("shared_load", lambda: None)
        for name in ("agent", "web", "worker", "beat"):
            self.set(f"{name}_child", lambda *_, name=name: NamedChild(name, home, self.happened))
        self.set("is_prepared", lambda *_: True)
        self.set("preparation_start", lambda *_: None)
        self.set("engine_wait", lambda **_: "dep_1-g1-r0")
        self.set("first_token_get", self._first_token)
        self.set("bill_wait", lambda **_: 5)
        self.stood_down: list[dict[str, str]] = []
        self.set("deployment_stand_down", lambda **given: self.stood_down.append(given))
        patch.setattr(self.supervisor, "_configure", lambda: (env, servers))
        patch.setattr(self.supervisor, "_wait_for_web", lambda _url: None)
        self.supervisor._holds = {"agent": SimpleNamespace(port=2)}  # type: ignore[dict-item]

    def set(self, name: str, value: Callable[..., object]) -> None:
        self.patch.setattr(room, name, value)

    def run(self, *, is_proven: bool, surface: str = "chat", **facts: object) -> None:
        def prepared(*_: object) -> dict[str, object]:
            self.happened.append("prepared")
            return FACTS | {"is_proven": is_proven, "surface": surface} | facts

        self.set("preparation_finish", prepared)
        self.supervisor._start()

    @property
    def state(self) -> dict[str, object]:
        return dict(json.loads(self.home.state.read_text()))

    def _first_token(self, *, key: str, surface: str, **_: object) -> FirstToken:
        self.keys.append(key)
        self.surfaces.append(surface)
        at = self.supervisor.progress.started + 1
        return FirstToken("req_1", at, PATHS[surface], example_body("kindling/spark", surface))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    home = Home(tmp_path / "home")
    home.make()
    return Start(home, monkeypatch)


def refuse(code: str) -> Callable[..., object]:
    def refused(**_: object) -> object:
        raise EmbeddedError(code, "It does not work.")

    return refused


@pytest.mark.parametrize("step", ["engine_wait", "first_token_get", "bill_wait"])
def test_a_proof_that_fails_ends_a_first_start_and_no_later_one(start: Start, step: str):
    start.set(step, refuse("it_failed"))
    with pytest.raises(EmbeddedError):
        start.run(is_proven=False)
    assert not start.home.state.exists()
    (told,) = start.stood_down
    assert (told["deployment_id"], told["key"]) == ("dep_1", "kd_live_made_anew")
    start.run(is_proven=True)
    assert len(start.stood_down) == 1
    assert start.state["first_token_s"] is None and start.state["url"] == "http://localhost:1"
    told = start.out.getvalue()
    assert "It does not work." in told and "[it_failed]" in told and "Console    http://localhost:1" in told
    assert "Ready" not in told and "curl" not in told and "the first token or its bill failed" in told


def test_a_start_that_is_proven_says_what_it_cost_and_uses_the_key_that_there_is(start: Start):
    start.run(is_proven=False)
    assert start.state["first_token_s"] == 1
    assert start.state["api_key"] == "kd_live_made_anew" == start.keys[0]
    told = start.out.getvalue()
    assert (
        "generated and billed, $0.000000" in told and "Ready in" in told and "curl http://localhost:1" in told
    )


@pytest.mark.parametrize(
    ("surface", "line", "asked"),
    [
        ("chat", "curl http://localhost:1/v1/chat/completions ", '"messages": [{'),
        ("completions", "curl http://localhost:1/v1/completions ", '"prompt": "'),
        ("embeddings", "curl http://localhost:1/v1/embeddings ", '"input": ["'),
    ],
)
def test_a_model_is_proven_and_shown_where_it_answers(start: Start, surface: str, line: str, asked: str):
    start.run(is_proven=False, surface=surface)
    told = start.out.getvalue()
    assert start.surfaces == [surface]
    assert line in told and asked in told


def test_a_refusal_of_the_usual_request_is_told_above_the_line_that_works(start: Start):
    body = {"model": "kindling/spark", "prompt": "Hello", "max_tokens": 4}
    found = FirstToken("req_1", 1, "/v1/completions", body, "Roles must alternate. [invalid_value]")
    start.set("first_token_get", lambda **_: found)
    start.run(is_proven=False)
    told = start.out.getvalue()
    assert "kindling/spark answers, but not" in told and "Roles must alternate. [invalid_value]" in told
    assert "curl http://localhost:1/v1/completions " in told and f"'{json.dumps(body)}'" in told
    assert "Ready in" in told


@pytest.mark.parametrize(
    ("running", "said"),
    [
        ({"a": "kindling/a"}, "Also running: kindling/a (`./kindling deployments stop a`)"),
        (
            {"a": "kindling/a", "other": "kindling/b"},
            "Also running: kindling/a, kindling/b as other (`./kindling deployments stop <name>`)",
        ),
    ],
)
def test_what_runs_beside_is_told(start: Start, running: dict[str, str], said: str):
    start.run(is_proven=True)
    assert "Also running" not in start.out.getvalue()
    start.run(is_proven=True, also_running=running)
    assert said in start.out.getvalue()


def test_adapters_that_were_checked_against_other_files_are_told_of(start: Start):
    start.run(is_proven=True, adapters_unchecked=1)
    assert "files of kindling/spark have changed: 1 adapter on it was checked" in start.out.getvalue()
    start.run(is_proven=True, adapters_unchecked=2)
    assert "2 adapters on it were checked" in start.out.getvalue()


@pytest.mark.parametrize(("is_ready", "first"), [(True, "web"), (False, "prepared")])
def test_web_waits_for_a_database_that_changes_and_for_no_other(start: Start, is_ready: bool, first: str):
    start.set("is_prepared", lambda *_: is_ready)
    start.run(is_proven=True)
    assert start.happened[1:3] == [first, "prepared" if first == "web" else "web"]


def test_a_full_disk_takes_no_state_and_the_start_goes_on(start: Start, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("kindling_platform.embedded.state.write_private", full)
        start.run(is_proven=True)
    assert not start.home.state.exists()
    start.supervisor._tend()
    assert start.state["model"] == "kindling/spark"


def test_a_full_disk_is_a_sentence_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    home = Home(tmp_path / "home")
    home.make()
    monkeypatch.setattr("kindling_platform.embedded.secrets.write_private", full)
    with pytest.raises(EmbeddedError, match="No space left") as refused:
        Supervisor(home, Progress())._configure()
    assert refused.value.code == "home_unwritable"


def test_what_the_system_refuses_is_a_sentence_with_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(_self: Supervisor) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Supervisor, "run", refused)
    monkeypatch.setenv("KINDLING_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["up"])
    assert done.exit_code == 1
    assert "Resource temporarily unavailable" in done.output and "[start_failed]" in done.output


def test_a_throwaway_stack_that_is_not_proven_is_no_stack(tmp_path: Path):
    made = Throwaway(Home(tmp_path / "home"), 1)
    made.home.make()
    made.home.state.write_text(json.dumps({"pid": 7, "first_token_s": None}))
    (tmp_path / "up.log").write_text("[engine_failed]")
    with pytest.raises(EmbeddedError, match="engine_failed") as failed:
        made._wait(SimpleNamespace(pid=7, poll=lambda: None), tmp_path / "up.log")  # type: ignore[arg-type]
    assert failed.value.code == "check_failed"
