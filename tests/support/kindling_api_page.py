"""The page of the data plane's surface, and the fields that the engine's code really reads."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kindling_engine.server.fields import Fields

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
_CODE = re.compile(r"`([^`]+)`")


def table(heading: str) -> list[list[str]]:
    """The cells of every row of the table under a heading, without its titles."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names_in(cell: str) -> list[str]:
    """The names that a cell writes as code."""
    return _CODE.findall(cell)


class FieldRecord:
    """What was asked of the top-level fields of a body: their names, and those that may only ask for nothing."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.only: set[str] = set()

    @classmethod
    async def of(
        cls,
        monkeypatch: pytest.MonkeyPatch,
        read_body: Callable[..., Awaitable[Any]],
        *others: Any,
        body: dict[str, Any],
    ) -> "FieldRecord":
        """Read one body and see which fields the code looks at."""
        record = cls()
        end, only = Fields.end, Fields.only

        def end_recorded(fields: Fields) -> None:
            if not fields.path(""):
                record.read |= fields._read
            end(fields)

        def only_recorded(fields: Fields, name: str, *harmless: Any) -> None:
            if not fields.path(""):
                record.only.add(name)
            only(fields, name, *harmless)

        with monkeypatch.context() as patched:
            patched.setattr(Fields, "end", end_recorded)
            patched.setattr(Fields, "only", only_recorded)
            await read_body(json.dumps(body).encode(), *others)
        return record
