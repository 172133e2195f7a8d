"""Small readers of a model folder's files."""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kindling_engine.models.errors import ModelError


def json_object_read(path: Path) -> dict[str, Any]:
    """A file's JSON object. Raises ModelError when it is missing or something else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError("model_missing", f"The model folder has no {path.name}.") from error
    except ValueError as error:
        raise ModelError("model_config", f"{path.name} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise ModelError("model_config", f"{path.name} is not a JSON object.")
    return value


def revision_read(folder: Path) -> str:
    """Identity of the weights inside this process: configuration plus name, size and time of each weight
    file.
    """
    digest = blake2b((folder / "config.json").read_bytes(), digest_size=16)
    for path in sorted(folder.glob("*.safetensors")):
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
