"""Uploads a PEFT folder in parts; an interrupted upload goes on where it stopped."""

import time
from collections.abc import Callable
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
    adapter = _unfinished(client, name, base) or client.post(
        "/api/v1/adapters",
        {
            "name": name,
            "base_model": base,
            "files": [{"name": file, "size_bytes": size} for file, size in sizes.items()],
        },
    )
    sent = 0
    for path in paths:
        for done in _send(client, adapter["id"], path):
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


def _send(client: Client, adapter_id: str, path: Path) -> Any:
    """Send what the platform does not have yet; gives the bytes there after each part."""
    total = path.stat().st_size
    at = _received(client, adapter_id, path.name, total)
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


def _received(client: Client, adapter_id: str, name: str, total: int) -> int:
    answer = client.get(f"/api/v1/adapters/{adapter_id}/files")
    rows = answer.get("data", []) if isinstance(answer, dict) else answer
    for row in rows:
        if row["name"] == name and row["size_bytes"] == total:
            return int(row["received_bytes"])
    return 0
