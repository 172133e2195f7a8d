"""Uploads a PEFT folder in parts; an interrupted upload of the same files goes on where it stopped."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.common.slugs import NAME

FILES = ("adapter_config.json", "adapter_model.safetensors")
COME_ALONG = ("README.md", "tokenizer.json")
"""Looked at by the checks, if the folder has them."""
PART_BYTES = 8 * 2**20
VALIDATION_TIMEOUT_S = 300.0
OPEN_STATES = {"uploading"}


def adapter_upload(
    client: Client, *, folder: Path, name: str, base: str, say: Callable[[int, int], None]
) -> dict[str, Any]:
    """Upload and wait until the adapter is ready or rejected; `say` hears bytes sent and bytes in all.

    Errors: CliError `files_missing`, or what the API says.
    """
    paths = [folder / file for file in FILES]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise CliError(f"{folder} holds no {' and no '.join(missing)}.", "files_missing")
    paths[1:1] = [
        folder / file for file in COME_ALONG if (folder / file).is_file() and (folder / file).stat().st_size
    ]
    sizes = {path.name: path.stat().st_size for path in paths}
    adapter = _unfinished(client, name, base)
    arrived = _arrived(client, adapter, paths) if adapter else None
    if adapter is None or arrived is None:
        # An unfinished one of the same name makes way, with all that had arrived of it.
        adapter, arrived = _begun(client, name, base, sizes), {}
    sent = 0
    for path in paths:
        for done in _send(client, adapter["id"], path, arrived.get(path.name, 0)):
            say(sent + done, sum(sizes.values()))
        sent += sizes[path.name]
    client.post(f"/api/v1/adapters/{adapter['id']}/complete")
    return adapter_wait(client, adapter["id"])


def adapter_wait(client: Client, adapter_id: str) -> dict[str, Any]:
    """The adapter once its checks are over. Errors: `validation_late`."""
    deadline = time.monotonic() + VALIDATION_TIMEOUT_S
    while time.monotonic() < deadline:
        adapter = client.get(f"/api/v1/adapters/{adapter_id}")
        if adapter["state"] in {"ready", "rejected"}:
            return dict(adapter)
        time.sleep(0.1)
    raise CliError(f"The checks of {adapter_id} take unusually long; look again later.", "validation_late")


def _unfinished(client: Client, name: str, base: str) -> dict[str, Any] | None:
    """An upload of the same name and base that was begun and not finished."""
    if not NAME.fullmatch(name):
        # No adapter is called so; what is wrong with it, the platform says.
        return None
    try:
        row = client.get(f"/api/v1/adapters/{name}")
    except CliError as error:
        if error.code == "not_found":
            return None
        raise
    same = row["name"] == name and row.get("base_model") == base
    return dict(row) if same and row["state"] in OPEN_STATES else None


def _begun(client: Client, name: str, base: str, sizes: dict[str, int]) -> dict[str, Any]:
    files = [{"name": file, "size_bytes": size} for file, size in sizes.items()]
    return dict(client.post("/api/v1/adapters", {"name": name, "base_model": base, "files": files}))


def _arrived(client: Client, adapter: dict[str, Any], paths: list[Path]) -> dict[str, int] | None:
    """Bytes that are there by name, or None if they are of other files, as after another training."""
    ours = {path.name: path for path in paths}
    arrived: dict[str, int] = {}
    has_others = False
    for row in adapter["files"]:
        path = ours.get(row["name"])
        if path is None:
            has_others |= bool(row["received_bytes"])
            continue
        if row["size_bytes"] != path.stat().st_size:
            return None
        if row["received_bytes"]:
            there = client.get(f"/api/v1/adapters/{adapter['id']}/files/{path.name}")
            if there["sha256"] != _beginning_sha256(path, there["received_bytes"]):
                return None
            arrived[path.name] = int(there["received_bytes"])
    # A card that this folder does not have may be another adapter's, unless the weights say that it is the same.
    return None if has_others and FILES[1] not in arrived else arrived


def _beginning_sha256(path: Path, size_bytes: int) -> str:
    digest, left = hashlib.sha256(), size_bytes
    with path.open("rb") as file:
        while block := file.read(min(PART_BYTES, left)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _send(client: Client, adapter_id: str, path: Path, at: int) -> Iterator[int]:
    """Send a file from `at` on; gives the bytes there after each part."""
    total = path.stat().st_size
    with path.open("rb") as file:
        file.seek(at)
        while at < total:
            part = file.read(PART_BYTES)
            client.call(
                "PUT",
                f"/api/v1/adapters/{adapter_id}/files/{path.name}",
                part,
                {"Content-Range": f"bytes {at}-{at + len(part) - 1}/{total}"},
            )
            at += len(part)
            yield at
