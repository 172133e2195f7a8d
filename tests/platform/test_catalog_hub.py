"""Models from a hub: huggingface_hub itself against a hub on this machine."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from kindling_engine.starter import SPARK_PATH
from kindling_hub import Hub, Repository, commit_name, hub_run
from kindling_people import Customer
from kindling_platform.catalog import hub as room
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.hub import snapshot_fetch
from kindling_platform.catalog.services import hub_download, model_import
from kindling_platform.common.errors import KindlingError
from kindling_platform.embedded.bootstrap import model_name_from

FIRST, SECOND = commit_name("first"), commit_name("second")
SPARK = {path.name: path.read_bytes() for path in sorted(SPARK_PATH.iterdir()) if path.is_file()}
NOT_NEEDED = {
    "pytorch_model.bin": b"pickle", "modeling_spark.py": b"raise SystemExit", "original/consolidated.safetensors": b"x",
    "consolidated.safetensors": b"y", "onnx/model.onnx": b"z", "flax_model.msgpack": b"f", ".gitattributes": b"g",
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_run() as running:
        running.repositories["acme/spark"] = Repository({FIRST: SPARK | NOT_NEEDED})
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # The library waits between its own attempts; here nothing gets better by waiting.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield running


def refusal(work) -> KindlingError:
    with pytest.raises(KindlingError) as refused:
        work()
    return refused.value


def fetch(target: Path, repo_id: str = "acme/spark", revision: str = ""):
    return snapshot_fetch(repo_id=repo_id, target=target, revision=revision)


def test_only_what_is_needed_is_fetched_and_the_commit_is_noted(hub: Hub, tmp_path: Path):
    source = fetch(tmp_path / "m")
    assert (source.repo_id, source.revision) == ("acme/spark", FIRST)
    arrived = {
        path.name: path.read_bytes() for path in (tmp_path / "m").iterdir() if not path.name.startswith(".")
    }
    assert arrived == {name: SPARK[name] for name in arrived} and arrived.keys() == source.files.keys()
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= arrived.keys()
    assert not set(hub.fetched()) & NOT_NEEDED.keys()
    assert all(FIRST in path for _, path in hub.calls if "/resolve/" in path), (
        "a file not of the pinned commit"
    )
    assert model_folder_read(tmp_path / "m").architecture == "LlamaForCausalLM"


def test_a_whole_folder_needs_no_hub(hub: Hub, tmp_path: Path):
    fetch(tmp_path / "m")
    hub.repositories["acme/spark"].commits[SECOND] = SPARK
    hub.status, before = 503, len(hub.calls)
    assert fetch(tmp_path / "m").revision == FIRST
    assert fetch(tmp_path / "m", revision=FIRST).revision == FIRST
    assert len(hub.calls) == before


def test_another_revision_is_fetched_when_asked_for(hub: Hub, tmp_path: Path):
    fetch(tmp_path / "m")
    changed = {**SPARK, "README.md": b"---\nlicense: mit\n---\n"} | {"merges.txt": b"a b"}
    hub.repositories["acme/spark"].commits[SECOND] = changed
    assert fetch(tmp_path / "m", revision="main").revision == SECOND
    assert model_folder_read(tmp_path / "m").licence == "mit"
    assert fetch(tmp_path / "m", revision=FIRST).revision == FIRST
    assert not (tmp_path / "m" / "merges.txt").exists(), "a file of the other commit stayed"


def test_shards_are_those_that_the_index_names(hub: Hub, tmp_path: Path):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    weights = SPARK["model.safetensors"]
    shards = dict.fromkeys(index["weight_map"].values(), weights)
    files = {name: content for name, content in SPARK.items() if name != "model.safetensors"}
    files |= {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model.fp8.safetensors": weights,
        **shards,
    }
    hub.repositories["acme/sharded"] = Repository({FIRST: files})
    source = fetch(tmp_path / "m", "acme/sharded")
    assert {name for name in source.files if name.endswith(".safetensors")} == set(shards)
    index["weight_map"]["c"] = "../outside.safetensors"
    files |= {"model.safetensors.index.json": json.dumps(index).encode(), "../outside.safetensors": b"x"}
    hub.repositories["acme/sharded"] = Repository({SECOND: files})
    refused = refusal(lambda: fetch(tmp_path / "n", "acme/sharded"))
    assert refused.code == "model_folder_invalid" and "outside" in refused.message


def test_a_cut_connection_is_taken_up_where_it_broke(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 65536)
    weights = SPARK["model.safetensors"]
    hub.cut_after["model.safetensors"] = len(weights) // 2
    fetch(tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == weights
    starts = [int(asked.removeprefix("bytes=").split("-")[0]) for asked in hub.ranges]
    assert starts and max(starts) > 0, "everything was fetched anew"


def test_after_a_killed_process_the_commit_stays_and_whole_files_are_kept(hub: Hub, tmp_path: Path):
    script = f"""
import os, time
from pathlib import Path
from huggingface_hub import file_download
get = file_download.http_get
folder = Path({str(tmp_path / "m")!r})
def dies(url, *arguments, **options):
    if "model.safetensors" in url:
        until = time.monotonic() + 60
        while not (folder / "tokenizer.json").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os._exit(9)
    return get(url, *arguments, **options)
file_download.http_get = dies
from kindling_platform.catalog.hub import snapshot_fetch
snapshot_fetch(repo_id="acme/spark", target=folder)
"""
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
    died = subprocess.run([sys.executable, "-c", script], env=environment, check=False, timeout=60)
    assert died.returncode == 9
    kept = "tokenizer.json"
    stale = tmp_path / "m" / ".cache" / "huggingface" / "download" / "x.0123.incomplete"
    stale.write_bytes(b"half")
    hub.calls.clear()
    hub.repositories["acme/spark"].commits[SECOND] = SPARK | {"model.safetensors": b"other"}
    assert fetch(tmp_path / "m").revision == FIRST
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == SPARK["model.safetensors"]
    assert "model.safetensors" in hub.fetched() and kept not in hub.fetched()
    assert not stale.exists()


def test_a_mirror_that_tells_no_sizes_will_do(hub: Hub, tmp_path: Path):
    hub.repositories["acme/spark"].sizes_told = False
    source = fetch(tmp_path / "m")
    assert source.files["model.safetensors"] == len(SPARK["model.safetensors"]) and source.is_whole(
        tmp_path / "m"
    )


def test_a_gated_model_asks_for_a_token_and_takes_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.repositories["acme/gated"] = Repository({FIRST: SPARK}, token="hf_secret")
    refused = refusal(lambda: fetch(tmp_path / "m", "acme/gated"))
    assert refused.code == "hub_forbidden" and "HF_TOKEN" in refused.message and "terms" in refused.message
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = refusal(lambda: fetch(tmp_path / "m", "acme/gated"))
    assert refused.code == "hub_forbidden" and "hf_wrong" not in refused.message
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(tmp_path / "m", "acme/gated").revision == FIRST
    assert "hf_secret" not in "".join(path.read_text() for path in (tmp_path / "m").glob(".*.json"))


def test_what_is_not_there_is_said_so(hub: Hub, tmp_path: Path):
    assert refusal(lambda: fetch(tmp_path / "m", "acme/nothing")).code == "hub_not_found"
    hub.repositories["acme/private"] = Repository({FIRST: SPARK}, token="hf_secret", private=True)
    assert refusal(lambda: fetch(tmp_path / "m", "acme/private")).code == "hub_not_found"
    refused = refusal(lambda: fetch(tmp_path / "m", revision="v9"))
    assert refused.code == "hub_not_found" and "revision" in refused.message


@pytest.mark.parametrize(
    ("name", "said"), [("pytorch_model.bin", "pickle"), ("model.Q4.gguf", "GGUF"), ("", "no model")]
)
def test_a_repository_without_safetensors_is_refused_before_any_weight(
    hub: Hub, tmp_path: Path, name: str, said: str
):
    files = {"config.json": b"{}"} | ({name: b"x"} if name else {})
    hub.repositories["acme/old"] = Repository({FIRST: files})
    refused = refusal(lambda: fetch(tmp_path / "m", "acme/old"))
    assert refused.code == "model_folder_invalid" and said in refused.message
    assert hub.fetched() == []


def test_a_disk_without_room_is_said_before_any_weight(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    refused = refusal(lambda: fetch(tmp_path / "m"))
    assert refused.code == "disk_full" and "GB" in refused.message
    assert hub.fetched() == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_fails_is_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int):
    hub.status = status
    assert refusal(lambda: fetch(tmp_path / "m")).code == "hub_offline"


def test_offline_mode_is_said_by_its_name(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused = refusal(lambda: fetch(tmp_path / "m"))
    assert refused.code == "hub_offline" and "HF_HUB_OFFLINE" in refused.message


@pytest.mark.django_db
def test_the_start_and_the_catalog_take_what_a_hub_id_names(hub: Hub, operator: Customer):
    """What `./kindling up --model <hub id>` calls, and what enters the model."""
    folder = hub_download(repo_id="acme/spark")
    assert folder == settings.KINDLING_ENV.home / "models" / "acme--spark"
    name = model_name_from("acme/spark")
    model = model_import(org=operator.org, name=name, source_path=folder, actor=operator.actor)
    assert (model.name, model.source_path) == (name, str(folder))
    assert model.architecture == "LlamaForCausalLM"
