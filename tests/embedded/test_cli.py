"""The command line as a customer of a running stack uses it, and how it fails without one."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_gateway import eventually
from kindling_stack import Stack
from kindling_tenant import CSRF


class Shell:
    """The command in a home of its own, against one address."""

    def __init__(self, home: Path, url: str, key: str = "") -> None:
        self.home = home
        self.url = url
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KINDLING_")}
        self.env = clean | {
            "XDG_CONFIG_HOME": str(home / "config"),
            "KINDLING_HOME": str(home / "none"),
            "COLUMNS": "160",
        }
        if key:
            self.env |= {"KINDLING_URL": url, "KINDLING_API_KEY": key}

    def run(self, *arguments: str, good: bool = True, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kindling_platform.cli", *arguments],
            env=self.env, input=stdin, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert (done.returncode == 0) is good, (arguments, done.stdout, done.stderr)
        return done.stdout if good else done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def customer(stack: Stack, tmp_path: Path) -> Shell:
    tenant = stack.sign_up(f"cli-{tmp_path.name[-12:].replace('_', '-')}")
    return Shell(tmp_path, stack.url, tenant.key)


def test_without_a_key_it_says_what_to_run(shell: Shell):
    assert "kindling login" in shell.run("models", good=False)


def test_unreachable_address_is_named(shell: Shell):
    refused = shell.run("login", "--url", "http://127.0.0.1:9", "--key", "kd_x", good=False)
    assert "http://127.0.0.1:9 does not answer" in refused and "[unreachable]" in refused
    assert not (shell.home / "config").exists()


def test_address_of_another_kind_is_refused(shell: Shell):
    assert "[invalid_url]" in shell.run("login", "--url", "file:///etc/passwd", "--key", "x", good=False)


def test_folder_without_an_adapter_is_refused_before_anything_is_sent(shell: Shell, tmp_path: Path):
    shell.env |= {"KINDLING_API_KEY": "kd_x", "KINDLING_URL": "http://127.0.0.1:9"}
    refused = shell.run("adapters", "push", str(tmp_path), "--base", "kindling/spark", good=False)
    assert "[files_missing]" in refused


@pytest.mark.stack
def test_login_keeps_the_key_privately_and_later_commands_find_it(stack: Stack, tmp_path: Path):
    tenant = stack.sign_up("cli-login")
    shell = Shell(tmp_path, stack.url)
    assert "Logged in" in shell.run("login", "--url", stack.url, "--key", tenant.key)
    kept = tmp_path / "config/kindling/credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "kindling/spark" in shell.run("models")


@pytest.mark.stack
def test_wrong_key_is_not_kept(stack: Stack, tmp_path: Path):
    shell = Shell(tmp_path, stack.url)
    assert "[invalid_api_key]" in shell.run("login", "--url", stack.url, "--key", "kd_live_no", good=False)
    assert not (tmp_path / "config").exists()


@pytest.mark.stack
def test_adapter_is_checked_pushed_listed_and_called(customer: Shell, tmp_path: Path):
    folder = tmp_path / "intent"
    shutil.copytree(ADAPTER_PATHS["intent"], folder)
    assert "fits kindling/spark" in customer.run("adapters", "check", str(folder))
    pushed = customer.run("adapters", "push", str(folder))
    assert "is ready" in pushed
    ref = next(word for word in pushed.split() if word.endswith("/intent"))
    (row,) = json.loads(customer.run("adapters", "list", "--json"))
    assert row["name"] == "intent" and row["state"] == "ready"
    assert customer.run("chat", "-m", ref, "--max-tokens", "12", "I was charged twice").strip()


@pytest.mark.stack
def test_broken_adapter_is_explained_here_and_there(customer: Shell, tmp_path: Path):
    folder = tmp_path / "broken"
    shutil.copytree(ADAPTER_PATHS["intent"], folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | {"peft_type": "PROMPT_TUNING"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    for verb in ("check", "push"):
        assert "PROMPT_TUNING" in customer.run("adapters", verb, str(folder), good=False)


@pytest.mark.stack
def test_numbers_that_are_none_are_found_before_an_upload(customer: Shell, tmp_path: Path):
    folder = tmp_path / "diverged"
    shutil.copytree(ADAPTER_PATHS["intent"], folder)
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4:] = b"\xff\xff\xff\xff"  # the last number, whatever its size
    weights.write_bytes(content)
    assert "contains NaN" in customer.run("adapters", "check", str(folder), good=False)


@pytest.mark.stack
def test_conversation_goes_on_line_by_line_and_shows_in_usage(customer: Shell):
    said = customer.run("chat", "--max-tokens", "8", stdin="Hello\nTell me a story\n")
    assert len([line for line in said.splitlines() if line.strip()]) >= 2
    assert "Balance: $" in customer.run("usage")
    eventually(lambda: len(customer.run("usage", "--csv", "--requests").splitlines()) == 3, seconds=60)
    days = [line.split(",") for line in customer.run("usage", "--csv", "--tz", "Europe/Berlin").splitlines()]
    assert "kindling/spark" in customer.run("usage", "--by", "model", "--interval", "none", "--compare")
    assert (days[0][2], sum(int(day[2]) for day in days[1:])) == ("requests", 2)
    assert "time_zone_unknown" in customer.run("usage", "--tz", "Mars", good=False)


@pytest.mark.stack
def test_somebody_is_invited_joins_gets_another_role_and_is_removed(customer: Shell, stack: Stack):
    link = customer.run("team", "invite", "nobody@example.com").strip()
    (waiting,) = json.loads(customer.run("team", "invitations", "--json"))
    assert (waiting["email"], waiting["role"]) == ("nobody@example.com", "developer")
    customer.run("team", "withdraw", waiting["id"])
    assert "There is no invitation." in customer.run("team", "invitations")
    friend = stack.sign_up("cli-friend")
    link = customer.run("team", "invite", friend.email, "--role", "viewer").strip()
    token = CSRF.search(friend.http.get(link).text)
    assert token
    form = {"csrfmiddlewaretoken": token[1]}
    assert friend.http.post(link, data=form, headers={"Referer": link}).is_success
    member, owner = json.loads(customer.run("team", "list", "--json"))
    assert (member["email"], member["role"], owner["role"]) == (friend.email, "viewer", "owner")
    assert f"{friend.email} is admin" in customer.run("team", "role", member["id"], "admin")
    assert "[role_forbidden]" in customer.run("team", "role", owner["id"], "viewer", good=False)
    assert "is removed" in customer.run("team", "remove", member["id"], "--keep-keys")
    (left,) = json.loads(customer.run("team", "list", "--json"))
    assert left["id"] == owner["id"]


@pytest.mark.stack
def test_an_owner_deletes_the_organisation_and_the_key_with_it(stack: Stack, tmp_path: Path):
    owner = stack.sign_up("cli-leaver")
    shell = Shell(tmp_path, stack.url, owner.key)
    assert "[confirmation_wrong]" in shell.run("team", "delete-organisation", "another", good=False)
    assert f"{owner.slug} is deleted." in shell.run("team", "delete-organisation", owner.slug)
    assert "deleted it" in shell.run("team", "list", good=False)


@pytest.mark.stack
def test_keys_are_made_listed_and_revoked(customer: Shell, tmp_path: Path):
    made = customer.run("keys", "create", "laptop", "--scope", "inference", "--scope", "read").strip()
    row = next(row for row in json.loads(customer.run("keys", "list", "--json")) if row["name"] == "laptop")
    assert made.startswith("kd_live_") and row["last4"] == made[-4:]
    said = customer.run("limits", "set", "requests_per_minute=90", "budget_day_usd=0.25", "--key", row["id"])
    assert "90" in said and "0.25" in said
    assert "not both" in customer.run("limits", "show", "--key", row["id"], "--member", "usr_x", good=False)
    successor = customer.run("keys", "rotate", row["id"], "--overlap-s", "60").strip()
    assert successor.startswith("kd_live_") and successor != made
    customer.run("keys", "revoke", row["id"])
    other = Shell(tmp_path / "other", customer.url, made)
    assert "key" in other.run("usage", good=False)


@pytest.mark.stack
def test_the_operator_makes_changes_and_deletes_a_deployment(stack: Stack, tmp_path: Path):
    operator = Shell(tmp_path, stack.url, stack.api_key)
    assert "spark is live" in operator.run("deployments", "start", "spark")
    said = operator.run("deployments", "logs", "spark")
    assert said.startswith("== dep_") and "does not answer" not in said
    made = operator.run("deployments", "create", "second", "kindling/spark", "--weights", "int8wo")
    assert "second is pending" in made
    assert "of 2 replicas" in operator.run("deployments", "change", "second", "--replicas", "2")
    assert "[nothing_to_change]" in operator.run("deployments", "change", "second", good=False)
    assert "asked to be stopped" in operator.run("deployments", "stop", "second")
    assert "2 replicas" in operator.run("deployments", "events", "second")
    kept = json.loads(operator.run("deployments", "revisions", "second", "--json"))
    assert [(row["number"], row["replicas"], row["weights"]) for row in kept] == [
        (2, 2, "int8wo"),
        (1, 1, "int8wo"),
    ]
    assert "of 1 replicas" in operator.run("deployments", "restore", "second", "1")
    assert "[not_found]" in operator.run("deployments", "restore", "second", "9", good=False)
    assert "0 of 0 replicas run" in operator.run("deployments", "allowance")
    assert "second is deleted." in operator.run("deployments", "delete", "second")
    rows = json.loads(operator.run("deployments", "list", "--json"))
    assert [row["name"] for row in rows] == ["spark"]
    assert "[not_found]" in operator.run("deployments", "start", "second", good=False)


def test_a_folder_of_adapters_moves_in_under_names_that_clients_keep(customer: Shell, tmp_path: Path):
    source = tmp_path / "adapters"
    for folder, called in zip(ADAPTER_PATHS.values(), ("Voice_v2", "intent"), strict=True):
        shutil.copytree(folder, source / called)
    broken = source / "broken"
    shutil.copytree(source / "intent", broken)
    (broken / "adapter_model.safetensors").write_bytes(b"no such thing")
    pickled = source / "pickled"
    pickled.mkdir()
    shutil.copy(source / "intent" / "adapter_config.json", pickled)
    (pickled / "adapter_model.bin").write_bytes(b"PK")
    arguments = ("adapters", "import", str(source), "--alias", "accounts/fireworks/models/{name}")
    said = customer.run(*arguments, good=False)
    assert "2 of 4 adapters did not come in" in said and "[import_incomplete]" in said
    states = {row["name"]: row["state"] for row in json.loads(customer.run("adapters", "list", "--json"))}
    assert states == {"voice_v2": "ready", "intent": "ready", "broken": "rejected"}
    shutil.rmtree(broken)
    shutil.rmtree(pickled)
    again = customer.run(*arguments)
    assert again.count(" there") == 2
    answer = customer.run(
        "chat", "-m", "accounts/fireworks/models/Voice_v2", "--max-tokens", "4", stdin="Hello\n"
    )
    assert answer.strip()


def test_two_adapters_of_one_name_are_refused_before_anything_is_sent(customer: Shell, tmp_path: Path):
    for name in ("Voice 1", "voice-1"):
        shutil.copytree(next(iter(ADAPTER_PATHS.values())), tmp_path / "adapters" / name)
    assert "[names_clash]" in customer.run("adapters", "import", str(tmp_path / "adapters"), good=False)
    assert json.loads(customer.run("adapters", "list", "--json")) == []
    (tmp_path / "empty").mkdir()
    assert "[nothing_found]" in customer.run("adapters", "import", str(tmp_path / "empty"), good=False)
