"""Where webhooks may go: an address is looked up, every answer is checked, and only what was checked is connected to.

Customers name these addresses, and this machine stands where they do not: it must not be sent to itself, to its
neighbours, or to what tells a cloud's machines their secrets.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from threading import Thread
from urllib.parse import urlsplit

from django.conf import settings

from kindling_platform.common.errors import KindlingError
from kindling_platform.hooks.kinds import URL_CHARS

LOOK_UP_S = 4.0
MOST_ADDRESSES = 16
PORTS = {"https": 443, "http": 80}
PRINTABLE = re.compile(r"[!-\[\]^-~]+")
HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?|[0-9a-f:.]*:[0-9a-f:.]*")
# Translates to the IPv4 address in its last four bytes (RFC 6052).
NAT64 = IPv6Network("64:ff9b::/96")
# Global by its number, and the host of a cloud machine in fact.
NEVER = {ip_address("168.63.129.16")}
PUBLIC, PRIVATE, REFUSED = "public", "private", "refused"


@dataclass(frozen=True, slots=True)
class Place:
    """A URL whose host stood for these addresses when it was looked up, all of which may be connected to."""

    url: str
    host: str
    port: int
    addresses: tuple[str, ...]


def place_check(url: str) -> Place:
    """Look a URL up, over the network: never call it inside a transaction.

    Raises:
        KindlingError: `webhook_url_invalid`, `webhook_host_unknown`, `webhook_address_refused`.
    """
    scheme, host, port = _parts(url)
    addresses = addresses_of(host, port)
    if not addresses:
        text = f"The name {host} has no address. Check how it is written, and that it is in the public DNS."
        raise KindlingError("webhook_host_unknown", text, param="url")
    standings = {address_standing(address) for address in addresses}
    if REFUSED in standings or (PRIVATE in standings and not _private_allowed()):
        text = f"{host} is no address on the public internet, and webhooks go nowhere else. Use one that is."
        raise KindlingError("webhook_address_refused", text, param="url")
    if scheme == "http" and standings != {PRIVATE}:
        raise _invalid("Webhooks go over https alone, so that nobody reads along.")
    # IPv4 first: a machine without IPv6 resolves such names all the same.
    ordered = sorted(addresses, key=lambda one: ":" in one)
    return Place(url, host, port, tuple(ordered[:MOST_ADDRESSES]))


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a name, as numbers; none where nobody knows it, or not in time."""
    found: list[str] = []

    def look() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(dict.fromkeys(str(row[4][0]) for row in rows))

    # The resolver has time-outs of its own, which add up to more than anybody waits.
    looking = Thread(target=look, name="webhook-dns", daemon=True)
    looking.start()
    looking.join(LOOK_UP_S)
    return list(found)


def address_standing(text: str) -> str:
    """Whether an address is PUBLIC, PRIVATE (this machine and its network), or REFUSED in any case."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return REFUSED
    if isinstance(address, IPv6Address) and (inner := _inner(address)) is not None:
        return address_standing(str(inner))
    if address in NEVER or address.is_link_local or address.is_multicast or address.is_unspecified:
        return REFUSED
    if address.is_loopback:
        return PRIVATE
    if address.is_reserved:
        return REFUSED
    if address.is_private:
        return PRIVATE
    return PUBLIC if address.is_global else REFUSED


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to."""
    if address in NAT64:
        return IPv4Address(address.packed[-4:])
    tunnelled = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or tunnelled


def _parts(url: str) -> tuple[str, str, int]:
    if not 1 <= len(url) <= URL_CHARS or not PRINTABLE.fullmatch(url):
        raise _invalid(
            f"An address has up to {URL_CHARS} characters, without spaces, and letters of ASCII alone."
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise _invalid("Write it like https://example.com/hooks.") from error
    if parts.scheme not in PORTS or not HOST.fullmatch(host) or port == 0:
        raise _invalid("Write it like https://example.com/hooks.")
    if parts.scheme == "http" and not _private_allowed():
        raise _invalid("Webhooks go over https alone, so that nobody reads along.")
    if parts.username is not None or parts.password is not None:
        raise _invalid("Leave name and password out of it: what we send is signed.")
    if parts.fragment:
        raise _invalid("Leave out what is behind the #: it is never sent.")
    return parts.scheme, host, port or PORTS[parts.scheme]


def _private_allowed() -> bool:
    return bool(settings.KINDLING_ENV.webhooks_private)


def _invalid(text: str) -> KindlingError:
    return KindlingError("webhook_url_invalid", text, param="url")
