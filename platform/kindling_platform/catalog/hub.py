"""Fetches a model's files from the Hugging Face Hub or a mirror of it; never code, never pickles.

HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the proxies of the environment mean what they mean to huggingface_hub.
"""

import fcntl
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from kindling_platform.catalog.hub_errors import hub_errors_told, hub_not_found, hub_offline
from kindling_platform.catalog.hub_files import INDEX, Source, small_files, source_read, weight_files
from kindling_platform.common.errors import KindlingError

REPO_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
# Room that must be left when everything has arrived.
SPARE_BYTES = 512 * 2**20


def model_target(models: Path, repo_id: str) -> Path:
    """The folder below `models` that a hub id is fetched into.

    Raises:
        KindlingError: `hub_not_found` for what is no id.
    """
    if not REPO_ID.fullmatch(repo_id):
        raise hub_not_found(f"{repo_id[:100]!r} is not the id of a model on the hub.")
    return models / repo_id.replace("/", "--")


def snapshot_fetch(*, repo_id: str, target: Path, revision: str = "") -> Source:
    """Bring one commit of a repository into `target` and note which.

    A cut connection is taken up where it broke; after a killed process, whole files are kept and the commit stays.
    Without a `revision`, a folder that is whole stays at the commit it has, and nothing is asked of the hub.

    Raises:
        KindlingError: `hub_not_found`, `hub_forbidden`, `hub_offline`, `disk_full`, `model_folder_invalid`.
    """
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".kindling-fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = source_read(target)
        if known is not None and (known.repo_id != repo_id or revision not in {"", known.revision}):
            return _fetch(repo_id, target, revision or "main", before=known)
        if known is not None and known.is_whole(target):
            return known
        # A fetch that was cut goes on with the commit it began with.
        return _fetch(repo_id, target, known.revision if known else revision or "main", before=known)


def _fetch(repo_id: str, target: Path, revision: str, *, before: Source | None) -> Source:
    with hub_errors_told(repo_id):
        info = _client().model_info(repo_id, revision=revision, files_metadata=True)
        sizes = {one.rfilename: int(one.size or 0) for one in info.siblings or []}  # some mirrors tell none
        commit = str(info.sha)
        names = small_files(list(sizes))
        index = None
        if INDEX in names:
            # Which weights are needed stands in here.
            _download(repo_id, commit, target, [INDEX])
            index = (target / INDEX).read_bytes()
        names += weight_files(repo_id, list(sizes), index)
        source = Source(repo_id, commit, {name: sizes[name] for name in names})
        _leftovers_remove(target)
        _room_check(source, target)
        source.save(target)
        _download(repo_id, commit, target, names)
    arrived = {name: size or (target / name).stat().st_size for name, size in source.files.items()}
    source = replace(source, files=arrived)
    if not source.is_whole(target):
        raise hub_offline(repo_id, "files arrived in other sizes than the hub lists")
    source.save(target)
    # What an earlier commit had and this one has not would be counted as part of the model.
    for name in (before.files.keys() if before is not None else set()) - arrived.keys():
        (target / name).unlink(missing_ok=True)
    return source


def _leftovers_remove(target: Path) -> None:
    """Beginnings that a killed process left; the library never looks at them again, and they can be large."""
    for path in target.glob(".cache/huggingface/download/**/*.incomplete"):
        path.unlink(missing_ok=True)


def _client() -> Any:
    # Imported here: it takes half a second, and only imports need it.
    from huggingface_hub import HfApi

    # Given each time: the library reads the variable once, when it is imported.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or None)


def _download(repo_id: str, commit: str, target: Path, names: list[str]) -> None:
    """Fetch named files, with the library's progress bars on a terminal and without them elsewhere."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        _client().snapshot_download(
            repo_id, revision=commit, local_dir=target, allow_patterns=[_literal(name) for name in names]
        )
    finally:
        if quiet:
            enable_progress_bars()


def _literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _room_check(source: Source, target: Path) -> None:
    missing = sum(
        size
        for name, size in source.files.items()
        if not ((target / name).is_file() and (target / name).stat().st_size == size)
    )
    needed, free = missing + SPARE_BYTES, shutil.disk_usage(target).free
    if needed > free:
        text = (
            f"{source.repo_id} needs {needed / 1e9:.1f} GB more on the disk of {target}, which has "
            f"{free / 1e9:.1f} GB free; make room, or set KINDLING_HOME to a larger disk."
        )
        raise KindlingError("disk_full", text, 507)
