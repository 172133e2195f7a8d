"""`kindling models import` as a process: from a hub on this machine and from a folder, without a stack."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from kindling_billing.selectors import price_current
from kindling_engine.starter import SPARK_PATH
from kindling_hub import Repository, commit_name, hub_run
from kindling_platform.catalog.models import Model
from kindling_platform.cli.forward import forward_argv

FIRST = commit_name("first")


class Shell:
    """The command with a state folder of its own and a given hub."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.home = home
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("KINDLING_", "HF_"))
        }
        self.env = kept | {"KINDLING_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kindling_platform.cli", *arguments],
            env=self.env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr


def test_a_hub_id_is_fetched_pinned_and_used_again_without_the_hub(tmp_path: Path):
    files = {path.name: path.read_bytes() for path in SPARK_PATH.iterdir() if path.is_file()}
    with hub_run() as hub:
        hub.repositories["acme/spark"] = Repository({FIRST: files | {"pytorch_model.bin": b"x"}})
        shell = Shell(tmp_path / "home", hub.url)
        made = json.loads(shell.run("models", "import", "acme/spark", "--json"))
        assert made["commit"] == FIRST and made["architecture"] == "LlamaForCausalLM"
        assert made["ref"] == "", "there is no catalog yet"
        assert "[hub_not_found]" in shell.run("models", "import", "acme/none", status=1)
    folder = Path(made["folder"])
    assert folder == (tmp_path / "home" / "models" / "acme--spark").resolve()
    assert not (folder / "pytorch_model.bin").exists()
    said = shell.run("models", "import", "acme/spark")
    assert f"Commit {FIRST}" in said and "./kindling up --model acme/spark" in said
    assert "[hub_offline]" in shell.run("models", "import", "acme/other", status=1)


def test_a_folder_is_used_where_it_lies(tmp_path: Path):
    shell = Shell(tmp_path / "home", "http://127.0.0.1:9")
    folder = Path(shutil.copytree(SPARK_PATH, tmp_path / "mine"))
    made = json.loads(shell.run("models", "import", str(folder), "--json"))
    assert Path(made["folder"]) == folder.resolve() and made["commit"] == ""
    assert "[revision_unused]" in shell.run("models", "import", str(folder), "--revision", "v1", status=1)
    (folder / "tokenizer.json").unlink()
    assert "[model_folder_invalid]" in shell.run("models", "import", str(folder), status=1)


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["verify", "folder", "--json"], ["kindling_engine", "verify", "folder", "--json"]),
        (["models", "import", "a/b"], ["kindling_platform.embedded", "models", "import", "a/b"]),
    ],
)
def test_commands_that_run_elsewhere_are_forwarded(arguments: list[str], module: list[str]):
    assert forward_argv(arguments) == [sys.executable, "-m", *module]


def test_the_list_of_models_stays_ours():
    assert forward_argv(["models"]) is None and forward_argv(["models", "--json"]) is None


@pytest.mark.django_db
def test_the_catalog_takes_the_folder_with_a_price_and_refuses_by_code(tmp_path: Path):
    folder = Path(shutil.copytree(SPARK_PATH, tmp_path / "mine"))

    def enter(name: str) -> dict[str, Any]:
        out = io.StringIO()
        call_command("import_model", str(folder), name, stdout=out)
        return dict(json.loads(out.getvalue()))

    assert enter("mine")["ref"] == "kindling/mine"
    model = Model.objects.get(name="mine")
    assert model.source_path == str(folder) and price_current(sku=model.id) is not None
    assert enter("mine")["ref"] == "kindling/mine" and Model.objects.count() == 1
    assert enter("Not A Name")["error"]["code"] == "name_invalid"
