"""Whether what should run runs, and nothing else that belongs to the stack."""

from pathlib import Path
from typing import Any

import psycopg

from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.errors import EmbeddedError

# The reconciler looks every two seconds; an engine takes some to load.
CONVERGED_WITHIN_S = 60.0
STRAYING = """
    SELECT count(*) AS n FROM deployments_deployment d
    WHERE (d.desired_state = 'running') <> (d.state = 'live')
    OR (d.desired_state = 'running' AND d.desired_replicas <> (
        SELECT count(*) FROM deployments_replica r
        WHERE r.deployment_id = d.id AND r.generation = d.generation AND r.state = 'ready'
    ))
"""


def strays_count(target: Target, books: "psycopg.Connection[dict[str, Any]]") -> int:
    """Deployments that are not as they should be, and processes of this stack that nobody would end."""

    def straying() -> int:
        row = books.execute(STRAYING).fetchone()
        return int(row["n"]) if row else 0

    try:
        target.wait(lambda: straying() == 0, "Every deployment", seconds=CONVERGED_WITHIN_S)
    except EmbeddedError:
        return straying()
    return len(ownerless(target.supervisor_pid, str(target.home.path)))


def ownerless(supervisor_pid: int, home: str) -> list[int]:
    """Processes that work on a state folder and do not descend from its supervisor."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return [pid for pid in parents if _works_on(pid, home) and supervisor_pid not in _line(pid, parents)]


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    """The process, its parent, and so on."""
    found = []
    while pid and pid not in found:
        found.append(pid)
        pid = parents.get(pid, 0)
    return found


def _works_on(pid: int, home: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        folder = str(Path(f"/proc/{pid}/cwd").resolve())
    except OSError:
        return False
    return folder.startswith(home) or any(home in word for word in words)


def _parent(process: Path) -> int:
    try:
        # The name in brackets may hold anything, blanks and brackets too.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
