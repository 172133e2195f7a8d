"""The index of error codes, read once from the files beside this one."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

FILES = ("inference.toml", "control.toml", "departures.toml", "operator.toml")
PATH = "/errors/"


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One code with the statuses that it comes with, the usual one first; both texts mark code by backticks."""

    code: str
    statuses: tuple[int, ...]
    means: str
    do: str


@cache
def error_entries() -> Mapping[str, ErrorEntry]:
    """All entries by their code, in the order of the files."""
    found: dict[str, ErrorEntry] = {}
    for name in FILES:
        for code, said in tomllib.loads((Path(__file__).parent / name).read_text()).items():
            if code in found:
                raise ValueError(f"{code} is in the index of errors twice")
            found[code] = ErrorEntry(code, tuple(said["status"]), said["means"], said["do"])
    return MappingProxyType(found)


def error_url(public_url: str, code: object) -> str | None:
    """Where a code's entry can be read; None for one that has none."""
    return f"{public_url}{PATH}#{code}" if isinstance(code, str) and code in error_entries() else None
