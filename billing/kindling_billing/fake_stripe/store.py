"""Everything the stand-in knows, in one SQLite file: a process that is killed loses no answer that it gave."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, seq INTEGER NOT NULL, created INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, seq);
CREATE TABLE IF NOT EXISTS keys (
  key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL, created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
  id INTEGER PRIMARY KEY, event TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Store:
    """One connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        path.touch()
        # What SQLite puts beside it has the same rights.
        for file in path.parent.glob(f"{path.name}*"):
            file.chmod(0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep an object under its id; its place in lists is that of its first keeping."""
        self._db.execute(
            "INSERT INTO objects (id, kind, seq, created, body)"
            " VALUES (?, ?, (SELECT coalesce(max(seq), 0) + 1 FROM objects), ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            [body["id"], body["object"], body.get("created", 0), json.dumps(body)],
        )
        return body

    def get(self, kind: str, id_: str) -> dict[str, Any] | None:
        """An object of a kind, or None."""
        row = self._db.execute("SELECT body FROM objects WHERE id = ? AND kind = ?", [id_, kind]).fetchone()
        return json.loads(row[0]) if row else None

    def rows(self, kind: str, *, since: int = 0, after: str = "") -> Iterator[dict[str, Any]]:
        """Objects of a kind, newest first, made at `since` or later and before the object `after`."""
        sql = "SELECT body FROM objects WHERE kind = ? AND created >= ?"
        values: list[Any] = [kind, since]
        if after:
            sql += " AND seq < (SELECT seq FROM objects WHERE id = ?)"
            values.append(after)
        for (body,) in self._db.execute(sql + " ORDER BY seq DESC", values).fetchall():
            yield json.loads(body)

    def key_get(self, key: str, *, since: int) -> tuple[str, int, str] | None:
        """The fingerprint, status and body kept under an idempotency key, unless it is older than `since`."""
        sql = "SELECT fingerprint, status, body FROM keys WHERE key = ? AND created >= ?"
        row = self._db.execute(sql, [key, since]).fetchone()
        return (row[0], row[1], row[2]) if row else None

    def key_put(self, key: str, fingerprint: str, status: int, body: str, *, created: int) -> None:
        """Keep an answer under an idempotency key."""
        sql = "INSERT OR REPLACE INTO keys (key, fingerprint, status, body, created) VALUES (?, ?, ?, ?, ?)"
        self._db.execute(sql, [key, fingerprint, status, body, created])

    def delivery_add(self, event_id: str, *, due: float) -> None:
        """An event to be delivered."""
        self._db.execute("INSERT INTO deliveries (event, due) VALUES (?, ?)", [event_id, due])

    def delivery_list(self, *, due: float) -> list[tuple[int, str, int]]:
        """Deliveries whose time has come: number, event id, attempts so far."""
        sql = "SELECT id, event, attempts FROM deliveries WHERE due <= ? ORDER BY due, id"
        return self._db.execute(sql, [due]).fetchall()

    def delivery_end(self, number: int) -> None:
        """A delivery that was taken."""
        self._db.execute("DELETE FROM deliveries WHERE id = ?", [number])

    def delivery_retry(self, number: int, *, due: float) -> None:
        """A delivery that failed."""
        sql = "UPDATE deliveries SET attempts = attempts + 1, due = ? WHERE id = ?"
        self._db.execute(sql, [due, number])

    def fact_get(self, name: str, default: str = "") -> str:
        """A single value."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()
        return str(row[0]) if row else default

    def fact_put(self, name: str, value: str) -> None:
        """Set a single value."""
        self._db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", [name, value])

    def forget(self) -> None:
        """Know nothing any more."""
        for table in ("objects", "keys", "deliveries", "facts"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608  # names of ours only

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
