"""What gateways have shipped into a world, and whether it agrees with what its engine has logged."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_gateway import World


@dataclass(frozen=True, slots=True)
class Shipped:
    """A row as the books will read it."""

    verdict: str
    record: UsageRecord

    @property
    def tokens(self) -> tuple[int, int]:
        return self.record.prompt_tokens, self.record.completion_tokens


def shipped(world: World) -> dict[str, Shipped]:
    """Everything that was shipped, by request id."""
    return {
        str(request_id): Shipped(verdict, msgspec.json.decode(record, type=UsageRecord))
        for request_id, verdict, record in world.rows(
            "SELECT request_id, verdict, record FROM usage_spooledusage"
        )
    }


def shipped_one(world: World, request_id: str) -> Shipped | None:
    """One request's row, None until it is there."""
    found = world.rows(
        "SELECT verdict, record FROM usage_spooledusage WHERE request_id = %s", UUID(request_id)
    )
    return Shipped(found[0][0], msgspec.json.decode(found[0][1], type=UsageRecord)) if found else None


def billed(rows: dict[str, Shipped], records: list[dict[str, Any]]) -> dict[str, int]:
    """Output tokens that each request is billed, as the books do it: our failures are free, the engine's log decides
    what was cut, the last checkpoint where it says nothing."""
    logged = {record["request_id"]: record for record in records}
    bills: dict[str, int] = {}
    for request_id in rows.keys() | logged.keys():
        row, record = rows.get(request_id), logged.get(request_id)
        if (row and row.verdict == "void") or (record and record["finish"] == "error"):
            bills[request_id] = 0
        elif record is not None:
            bills[request_id] = int(record["completion_tokens"])
        elif row is not None:
            bills[request_id] = row.record.completion_tokens
    return bills
