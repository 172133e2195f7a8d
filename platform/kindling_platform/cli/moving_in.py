"""`kindling adapters import`: a folder of adapters, or a list of hub ids, registered under names that clients keep."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindling_platform.cli.client import Client
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.program import PROGRAM
from kindling_platform.cli.upload import FILES, adapter_upload
from kindling_platform.common.slugs import NAME

PICKLE = "adapter_model.bin"


@dataclass(frozen=True, slots=True)
class Found:
    """One adapter to bring in: where its files are, what it was called, and what it will be called."""

    folder: Path
    called: str
    name: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one went: ``state`` is ready, there (it was before), rejected or failed."""

    called: str
    name: str
    state: str
    reason: str = ""


def adapters_find(root: Path) -> list[Found]:
    """The adapters below a folder: it, or the folders in it that hold an ``adapter_config.json``, by name.

    Errors: CliError `nothing_found`, `names_clash`.
    """
    config = FILES[0]
    folders = (
        [root] if (root / config).is_file() else sorted(path.parent for path in root.glob(f"*/{config}"))
    )
    if not folders:
        raise CliError(f"{root} holds no {config}, and no folder in it does.", "nothing_found")
    return named([(folder, folder.resolve().name) for folder in folders])


def hub_adapters_fetch(listing: Path, target: Path) -> list[Found]:
    """Fetch the adapters whose hub ids a file lists, one a line, into ``target``; what is there already stays.

    Errors: CliError `hub_failed`, `names_clash`.
    """
    from huggingface_hub import snapshot_download

    found = []
    for line in listing.read_text().splitlines():
        repo_id = line.partition("#")[0].strip()
        if not repo_id:
            continue
        folder = target / repo_id.replace("/", "--")
        try:
            snapshot_download(repo_id, local_dir=folder, allow_patterns=[*FILES])
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CliError(f"{repo_id} could not be fetched: {reason}", "hub_failed") from error
        found.append((folder, repo_id))
    return named(found)


def named(found: list[tuple[Path, str]]) -> list[Found]:
    """A name that the platform takes for each; two that come out the same are refused before anything is sent."""
    made = [Found(folder, called, name_make(called.rpartition("/")[2])) for folder, called in found]
    names = [one.name for one in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CliError(
            f"More than one adapter would be called {', '.join(twice)}; rename their folders.", "names_clash"
        )
    return made


def name_make(called: str) -> str:
    """The name itself where it is one, else the nearest."""
    name = re.sub(r"[^a-z0-9._-]+", "-", called.lower()).strip("-._")[:64].strip("-._")
    return called if NAME.fullmatch(called) else name or "adapter"


def adapters_import(
    client: Client, found: list[Found], *, base: str, alias: str, say: Any
) -> Iterator[Outcome]:
    """Bring them in one by one; one that fails keeps none of the others from coming.

    ``alias`` is a name with ``{name}`` in it for what each was called, or empty; ``say`` hears the adapter, bytes sent
    and bytes in all. What is ready under its name stays, so that an import which was cut can be run again.
    """
    ready = {row["name"] for row in client.rows("/api/v1/adapters") if row["state"] == "ready"}
    for one in found:
        try:
            outcome = Outcome(one.called, one.name, "there")
            if one.name not in ready:
                outcome = _bring(client, one, base, say)
            if alias and outcome.state != "rejected":
                known_as = alias.replace("{name}", one.called.rpartition("/")[2])
                client.post("/api/v1/aliases", {"alias": known_as, "target": one.name})
            yield outcome
        except CliError as error:
            yield Outcome(one.called, one.name, "failed", error.message)


def _bring(client: Client, one: Found, base: str, say: Any) -> Outcome:
    if not (one.folder / FILES[1]).is_file() and (one.folder / PICKLE).is_file():
        reason = (
            f"It is a pickle, which is never uploaded. Convert it: {PROGRAM} adapters convert {one.folder}"
        )
        return Outcome(one.called, one.name, "failed", reason)
    adapter = adapter_upload(
        client, folder=one.folder, name=one.name, base=base, say=lambda done, total: say(one, done, total)
    )
    if adapter["state"] == "rejected":
        return Outcome(one.called, one.name, "rejected", str(adapter.get("error") or ""))
    return Outcome(one.called, one.name, "ready")
