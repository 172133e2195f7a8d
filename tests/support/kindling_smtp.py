"""A mail server on loopback that takes letters, and refuses those to the addresses it is told to refuse."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class MailServer:
    """`refusing` answers an address with a line such as "550 no such user"; `taken` are recipients and texts."""

    port: int = 0
    refusing: dict[str, str] = field(default_factory=dict)
    taken: list[tuple[str, str]] = field(default_factory=list)

    def settle(self, settings: Any) -> None:
        """Have Django send by this server."""
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", self.port
        settings.EMAIL_FILE_PATH = None
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""

    def said_to(self, address: str) -> list[str]:
        return [text for recipient, text in self.taken if recipient == address]


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Start one on a free port."""
    state = MailServer()

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipient = ""
            self.say("220 ready")
            while line := self.rfile.readline().decode().strip():
                verb = line[:4].upper()
                if verb == "RCPT":
                    recipient = line.partition("<")[2].partition(">")[0]
                    self.say(state.refusing.get(recipient, "250 fine"))
                elif verb == "DATA":
                    self.say("354 go on")
                    state.taken.append((recipient, self.text()))
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def text(self) -> str:
            lines = []
            while (line := self.rfile.readline().decode()) not in ("", ".\r\n"):
                lines.append(line)
            return "".join(lines)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Conversation) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(timeout=10)
