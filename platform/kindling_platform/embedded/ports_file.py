"""The loopback ports of this state folder's servers, the same ones at every start if they are free."""

import json

from kindling_platform.embedded.files import read_json, write_private
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import PortHold, hold_port

SERVERS = ("postgres", "valkey", "agent", "stripe")


def ports_hold(home: Home) -> dict[str, PortHold]:
    """Hold one port per server; a taken one is replaced and remembered."""
    known = read_json(home.ports)
    holds = {name: hold_port(known.get(name)) for name in SERVERS}
    write_private(home.ports, json.dumps({name: hold.port for name, hold in holds.items()}))
    return holds
