"""A hub on this machine: models by id, in the shape that huggingface_hub speaks, with every call noted."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """One model: files by commit; the last commit is `main`. `token` is what a gated one asks for.

    `sizes` is what the listing says of files, whatever they have.
    """

    commits: dict[str, dict[str, bytes]]
    token: str = ""
    private: bool = False
    sizes_told: bool = True
    sizes: dict[str, int] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        if revision == "main":
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


@dataclass
class Hub:
    """`cut_after` ends the next answer of a file after so many bytes; `status` answers everything with it.

    An answer that reaches the byte `hold_at` of a file waits there, `is_held`, for `go_on`. With a `storage` files come
    from that other address, as the hub's large ones do. `tokens` is what was said with each of the `calls`.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    cut_after: dict[str, int] = field(default_factory=dict)
    status: int = 0
    hold_at: dict[str, int] = field(default_factory=dict)
    is_held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    storage: str = ""
    tokens: list[str] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Names of the files whose bytes were asked for."""
        return [path.split("/resolve/")[1].split("/", 1)[1] for verb, path in self.calls
                if verb == "GET" and "/resolve/" in path]  # fmt: skip


def commit_name(text: str) -> str:
    """Forty hexadecimal digits, as a commit has."""
    return hashlib.sha1(text.encode()).hexdigest()


@contextmanager
def hub_run() -> Iterator[Hub]:
    hub = Hub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.hub.calls.append((self.command, path))
        self.hub.tokens.append((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        if self.hub.status:
            self._send(self.hub.status, b"{}", {})
        elif path.startswith("api/models/"):
            self._model(path.removeprefix("api/models/"))
        elif "/resolve/" in path:
            self._file(*path.split("/resolve/", 1))
        else:
            self._send(404, b"{}", {})

    def _model(self, rest: str) -> None:
        for verb in ("/revision/", "/tree/"):
            if verb in rest:
                repo_id, revision = rest.split(verb, 1)
                found = self._allowed(repo_id, revision, listing=True)
                if found:
                    self._send(200, json.dumps(self._listing(*found, verb)).encode(), {})
                return
        self._send(404, b"{}", {})

    def _listing(self, repo_id: str, repository: Repository, commit: str, verb: str) -> object:
        files = repository.commits[commit]
        if verb == "/tree/":
            return [
                {"type": "file", "path": name, "size": len(content), "oid": commit_name(name)}
                for name, content in files.items()
            ]
        siblings = []
        for name, content in files.items():
            told = {"size": repository.sizes.get(name, len(content)), "blobId": _etag(content)}
            siblings.append({"rfilename": name} | (told if repository.sizes_told else {}))
        return {
            "id": repo_id, "modelId": repo_id, "sha": commit, "private": repository.private,
            "gated": "manual" if repository.token else False, "disabled": False, "tags": [], "downloads": 0,
            "likes": 0, "siblings": siblings,
        }  # fmt: skip

    def _file(self, repo_id: str, rest: str) -> None:
        revision, _, name = rest.partition("/")
        found = self._allowed(repo_id, revision)
        if not found:
            return
        _, repository, commit = found
        content = repository.commits[commit].get(name)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if self.hub.storage:
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": headers["ETag"]}
            self._send(302, b"", headers | linked | {"Location": self.hub.storage + self.path})
            return
        asked, status, start, end = self.headers.get("Range"), 200, 0, len(content)
        if asked and asked.startswith("bytes=") and self.command == "GET":
            self.hub.ranges.append(asked)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else end, end)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if self.command == "HEAD":
            self._send(status, content, headers)
            return
        hold = self.hub.hold_at.get(name, end)
        self._send(
            status, content[start:end], headers, cut=self.hub.cut_after.pop(name, None),
            hold=hold - start if start <= hold < end else None,
        )  # fmt: skip

    def _allowed(
        self, repo_id: str, revision: str, *, listing: bool = False
    ) -> tuple[str, Repository, str] | None:
        repository = self.hub.repositories.get(repo_id)
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repository is None or (repository.private and given != repository.token):
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return None
        if repository.token and given != repository.token and not listing:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            return None
        commit = repository.resolve(revision)
        if commit is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo_id, repository, commit

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        *,
        cut: int | None = None,
        hold: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if hold is not None:
            self.wfile.write(body[:hold])
            self.wfile.flush()
            self.hub.is_held.set()
            self.hub.go_on.wait(60)
            body = body[hold:]
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
