"""Free ports that stay ours between choosing them and listening on them."""

import socket
from dataclasses import dataclass

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


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def is_answering(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
