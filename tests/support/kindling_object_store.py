"""An S3 server on this machine that is not ours (moto's), and a door before it that can be slow, broken or shut."""

import http.client
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

BUCKET, PREFIX = "adapters", "here"
KEY_ID, SECRET = "AKIATESTTESTTEST", "a-secret-of-the-store"


@dataclass
class S3:
    """`url` leads through the door. `status` answers everything with it, `status_for` what has a word in its path.

    `hold` keeps requests with a word in their path until `go_on`; `calls` is what came through.
    """

    url: str
    behind: str
    status: int = 0
    body: bytes = b""
    status_for: dict[str, int] = field(default_factory=dict)
    hold: str = ""
    is_held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def client(self) -> Any:
        """Another's client, past the door."""
        return boto3.client(
            "s3",
            endpoint_url=self.behind,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def reset(self) -> None:
        """One empty bucket, and an open door."""
        self.status, self.body, self.hold = 0, b"", ""
        self.status_for.clear()
        self.calls.clear()
        self.is_held.clear()
        self.go_on.clear()
        connection = http.client.HTTPConnection(self.behind.removeprefix("http://"))
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == 200
        connection.close()
        self.client.create_bucket(Bucket=BUCKET)

    def names(self) -> list[str]:
        """Of all objects below the prefix."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/").get("Contents", [])
        return sorted(one["Key"].removeprefix(f"{PREFIX}/") for one in found)

    def read(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=content)

    def settings(self, **others: str) -> dict[str, str]:
        """What an installation that uses it has in its environment."""
        return {
            "KINDLING_OBJECT_STORE": f"s3://{BUCKET}/{PREFIX}",
            "KINDLING_OBJECT_STORE_ENDPOINT": self.url,
            "KINDLING_OBJECT_STORE_ACCESS_KEY_ID": KEY_ID,
            "KINDLING_OBJECT_STORE_SECRET_ACCESS_KEY": SECRET,
            **others,
        }


@contextmanager
def s3_running() -> Iterator[S3]:
    """A server with one empty bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    door = _Door(("127.0.0.1", 0), _Passage)
    s3 = S3(url=f"http://127.0.0.1:{door.server_port}", behind=f"http://{host}:{port}")
    door.s3 = s3
    thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        s3.reset()
        yield s3
    finally:
        s3.go_on.set()
        door.shutdown()
        door.server_close()
        server.stop()


class _Door(ThreadingHTTPServer):
    daemon_threads = True
    s3: S3


class _Passage(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Door

    def _pass(self) -> None:
        s3 = self.server.s3
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        s3.calls.append((self.command, self.path))
        if s3.hold and s3.hold in self.path:
            s3.is_held.set()
            s3.go_on.wait(60)
        status = next((code for word, code in s3.status_for.items() if word in self.path), s3.status)
        if status:
            self._answer(status, {}, s3.body)
            return
        connection = http.client.HTTPConnection(s3.behind.removeprefix("http://"), timeout=30)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = connection.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        with suppress(OSError):
            self.send_response_only(status)
            dropped = {"transfer-encoding", "connection"} | (
                {"content-length"} if self.command != "HEAD" else set()
            )
            for name, value in headers.items():
                if name.lower() not in dropped:
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
