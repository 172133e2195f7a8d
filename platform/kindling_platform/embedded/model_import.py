"""`./kindling models import`: a model from the hub or a folder, into this machine and its catalog."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.hub import model_target, snapshot_fetch
from kindling_platform.common.errors import KindlingError
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import read_json
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock, stack_runs
from kindling_platform.embedded.model_names import model_name_from
from kindling_platform.embedded.postgres import PostgresServer
from kindling_platform.embedded.preparation import last_object, run_django
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers


@dataclass(frozen=True, slots=True)
class Imported:
    """A model on this machine; `ref` is empty while no catalog was ever made here. `commit` is the hub's."""

    folder: str
    architecture: str
    parameters: int
    commit: str
    ref: str


def model_bring(home: Home, wanted: str, *, name: str, revision: str) -> Imported:
    """Fetch or find a model, look at it, and enter it where there is a catalog. Safe to repeat.

    Errors: `hub_not_found`, `hub_forbidden`, `hub_offline`, `disk_full`, `model_folder_invalid`, `revision_unused`,
    and what the catalog refuses.
    """
    try:
        folder, commit = _folder(home, wanted, revision)
        facts = model_folder_read(folder)
    except KindlingError as error:
        raise EmbeddedError(error.code, error.message) from error
    ref = ""
    if home.secrets.exists():
        ref = _enter(home, folder, name or model_name_from(wanted))
    return Imported(str(folder), facts.architecture, facts.parameters, commit, ref)


def _folder(home: Home, wanted: str, revision: str) -> tuple[Path, str]:
    path = Path(wanted).expanduser()
    if path.is_dir():
        if revision:
            raise EmbeddedError("revision_unused", f"{wanted} is a folder, which has no revisions.")
        return path.resolve(), ""
    target = model_target(home.path / "models", wanted)
    home.make()
    return target, snapshot_fetch(repo_id=wanted, target=target, revision=revision).revision


def _enter(home: Home, folder: Path, name: str) -> str:
    """Beside a running stack or without one."""
    servers = Servers.plan(home, read_json(home.ports), secrets_ensure(home.secrets))
    os.environ.update(servers.environ(), KINDLING_HOME=str(home.path))
    if stack_runs(home) or servers.postgres is None:
        done = run_django(home, "prepare", "import_model", str(folder), name)
    else:
        done = _run_with_postgres(home, servers.postgres, folder, name)
    found = last_object(done.stdout) or {}
    if "error" in found:
        raise EmbeddedError(found["error"]["code"], found["error"]["message"])
    if done.returncode != 0 or "ref" not in found:
        raise EmbeddedError(
            "import_failed", f"The model is in {folder}, but not in the catalog; see {home.log('prepare')}."
        )
    return str(found["ref"])


def _run_with_postgres(
    home: Home, postgres: PostgresServer, folder: Path, name: str
) -> subprocess.CompletedProcess[str]:
    lock = HomeLock(home, what="An import of a model")
    lock.take()
    try:
        postgres.start()
        return run_django(home, "prepare", "import_model", str(folder), name)
    finally:
        postgres.stop()
        lock.release()


def imported_json(imported: Imported) -> str:
    return json.dumps(
        {
            "folder": imported.folder,
            "architecture": imported.architecture,
            "parameters": imported.parameters,
            "commit": imported.commit,
            "ref": imported.ref,
        }
    )
