"""Free ports that stay ours between choosing them and listening on them."""

import errno
import socket
from dataclasses import dataclass

from kindling_platform.embedded.errors import EmbeddedError

LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class PortHold:
    """A port that the kernel gives to nobody else while the hold lives.

    The hold is bound but does not listen, so a server that sets SO_REUSEADDR (Postgres, Valkey, asyncio)
    may still bind and listen on it.
    """

    port: int
    _socket: socket.socket

    def release(self) -> None:
        self._socket.close()


def hold_port(wanted: int | None = None) -> PortHold:
    """Hold the wanted port of the loopback, or any free one when somebody listens on it or none is wanted."""
    for port in ([wanted] if wanted else []) + [0]:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((LOOPBACK, port))
        except OSError:
            held.close()
            continue
        return PortHold(port=held.getsockname()[1], _socket=held)
    raise OSError("no free port on the loopback")


def address_check(host: str, port: int) -> None:
    """Listen there for a moment; port 0 looks at the host alone.

    Errors: `port_in_use`; `port_forbidden`, which is one below 1024 for most accounts; `host_unknown`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    # Names that no name could be are no OSError.
    except (OSError, UnicodeError) as error:
        raise _refusal(host, port, getattr(error, "errno", None)) from error


def _refusal(host: str, port: int, number: int | None) -> EmbeddedError:
    if number == errno.EADDRINUSE:
        # The last port has none behind it.
        another = port + 1 if port < 65535 else port - 1
        return EmbeddedError(
            "port_in_use",
            f"Port {port} of {host} is in use; stop what listens there, or start with another: "
            f"KINDLING_PORT={another} ./kindling up",
        )
    if number in {errno.EACCES, errno.EPERM}:
        return EmbeddedError(
            "port_forbidden",
            f"This account may not listen on port {port} of {host}; start with another: "
            f"KINDLING_PORT=8000 ./kindling up",
        )
    return EmbeddedError(
        "host_unknown",
        f"KINDLING_HOST={host} is no address of this machine; leave it out for this machine alone, "
        "or give one that `ip address` lists.",
    )


def is_answering(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
