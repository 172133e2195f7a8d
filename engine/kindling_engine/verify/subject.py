"""Which checkpoint a folder holds: what the import wrote down, or else what its files say."""

import hashlib
import json
from pathlib import Path
from typing import Any

SOURCE_NAME = ".kindling-source.json"
_SHOWN_DIGITS = 12
_HASHED_BYTES = 1 << 20


def name_and_revision(folder: Path, name: str = "") -> tuple[str, str]:
    """The model's name and the first digits of its revision.

    Without a record of an import, the revision is a hash over the configuration and the beginning of each weight
    file, where its table of tensors stands.
    """
    source = _json(folder / SOURCE_NAME)
    config = _json(folder / "config.json")
    named = (
        name
        or str(source.get("repo_id") or "")
        or _hub_id(config.get("_name_or_path"))
        or folder.resolve().name
    )
    revision = str(source.get("revision") or "") or _files_hash(folder)
    return named, revision[:_SHOWN_DIGITS]


def _hub_id(value: Any) -> str:
    """A hub id, and not a path of the machine that the checkpoint was saved on."""
    if (
        not isinstance(value, str)
        or value.startswith((".", "/", "~"))
        or value.count("/") != 1
        or "\\" in value
    ):
        return ""
    return value


def _files_hash(folder: Path) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_HASHED_BYTES))
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
