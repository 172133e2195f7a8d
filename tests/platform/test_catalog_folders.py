"""Folders that hold something else than a model, or something beside it: told by name, and not counted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kindling_engine.starter import SPARK_PATH
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.common.errors import KindlingError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SPARK_PATH, tmp_path / "model"))


def broken_link(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "nowhere")


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def strange_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": []}')


def pointer(name: str) -> Callable[[Path], None]:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    return lambda folder: (folder / name).write_text(text) and None


def an_adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def an_adapter_with_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def gguf(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "model.q4.gguf")


def gguf_with_config(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.q4.gguf")


REASONS = [
    (broken_link, r"model\.safetensors cannot be read .*a link to a file that is not there"),
    (missing_shard, r"model-2\.safetensors cannot be read"),
    (strange_index, r"index\.json does not say which file"),
    *((pointer(f"{name}"), rf"{name} is a pointer of Git LFS.*`git lfs pull` in /")
      for name in ("model.safetensors", "tokenizer.json", "config.json")),
    (an_adapter, "is an adapter, not a model.*`./kindling adapters push /"),
    (an_adapter_with_config, "is an adapter, not a model"),
    (gguf, r"in GGUF \(model\.q4\.gguf\).*in safetensors"),
    (gguf_with_config, "in GGUF"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), REASONS)
def test_a_folder_of_something_else_is_told_by_name(folder: Path, spoil, reason: str):
    spoil(folder)
    with pytest.raises(KindlingError, match=reason) as refused:
        model_folder_read(folder)
    assert refused.value.code == "model_folder_invalid"


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "notes.txt"])
def test_a_file_that_may_not_be_read_is_named(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    (folder / name).touch()
    usual = Path.open

    def refusing(path: Path, *rest, **more):
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return usual(path, *rest, **more)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(KindlingError, match=rf"{name} cannot be read \(Permission denied\)") as refused:
        model_folder_read(folder)
    assert refused.value.code == "model_folder_invalid"


@pytest.mark.parametrize("other", ["consolidated.safetensors", "adapter_model.safetensors"])
@pytest.mark.parametrize("indexed", [True, False])
def test_only_the_models_own_weights_are_counted(folder: Path, other: str, indexed: bool):
    counted = model_folder_read(folder).parameters
    shutil.copy(folder / "model.safetensors", folder / other)
    if indexed:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    assert model_folder_read(folder).parameters == counted
