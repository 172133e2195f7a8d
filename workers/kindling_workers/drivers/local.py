"""The `local` driver: HTTP with a token to the agent, which alone starts engines."""

from typing import TypeVar
from urllib.parse import quote

import msgspec

from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_workers.drivers.base import DriverError, DriverUnreachable, UsageLog, UsagePage
from kindling_workers.http import HttpAnswer, HttpUnreachable, http_call

# Stopping an engine lets it finish its streams first.
STOP_TIMEOUT_S = 25.0
T = TypeVar("T")


class _Failure(msgspec.Struct):
    message: str
    code: str


class _FailureBody(msgspec.Struct):
    error: _Failure


class _ReplicaList(msgspec.Struct):
    replicas: list[ReplicaStatus]


class _UsageList(msgspec.Struct):
    logs: list[UsageLog]


class _UsageBody(msgspec.Struct):
    log: str
    records: list[UsageRecord]
    next: int


class LocalDriver:
    """A `Driver` and a `UsageSource` over the agent at `url`."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s

    def ensure(self, spec: ReplicaSpec) -> ReplicaStatus:
        answer = self._call("PUT", _path(spec.name), body=msgspec.json.encode(spec), timeout_s=STOP_TIMEOUT_S)
        return _decode(answer, ReplicaStatus)

    def observe(self, name: str) -> ReplicaStatus | None:
        answer = self._call("GET", _path(name))
        return None if answer.status == 404 else _decode(answer, ReplicaStatus)

    def delete(self, name: str) -> None:
        answer = self._call("DELETE", _path(name), timeout_s=STOP_TIMEOUT_S)
        if answer.status not in (204, 404):
            raise _failure(answer)

    def replica_list(self) -> list[ReplicaStatus]:
        return _decode(self._call("GET", "/replicas"), _ReplicaList).replicas

    def usage_list(self) -> list[UsageLog]:
        return _decode(self._call("GET", "/usage"), _UsageList).logs

    def usage_read(self, replica: str, *, after: int, limit: int) -> UsagePage:
        answer = self._call("GET", f"{_path(replica)}/usage?after={after}&limit={limit}")
        read = _decode(answer, _UsageBody)
        return UsagePage(log_id=read.log, records=read.records, next_offset=read.next)

    def usage_delete(self, replica: str, *, size_bytes: int) -> bool:
        answer = self._call("DELETE", f"{_path(replica)}/usage?size={size_bytes}")
        if answer.status not in (204, 409):
            raise _failure(answer)
        return answer.status == 204

    def _call(
        self, method: str, path: str, *, body: bytes | None = None, timeout_s: float | None = None
    ) -> HttpAnswer:
        try:
            return http_call(
                method,
                self._url + path,
                body=body,
                headers=self._headers,
                timeout_s=timeout_s or self._timeout_s,
            )
        except HttpUnreachable as error:
            raise DriverUnreachable("agent_unreachable", f"The agent does not answer: {error}") from error


def _path(name: str) -> str:
    return f"/replicas/{quote(name, safe='')}"


def _decode(answer: HttpAnswer, kind: type[T]) -> T:
    if answer.status != 200:
        raise _failure(answer)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise DriverError("agent_answer_invalid", f"The agent's answer cannot be read: {error}") from error


def _failure(answer: HttpAnswer) -> DriverError:
    try:
        said = msgspec.json.decode(answer.body, type=_FailureBody).error
    except msgspec.DecodeError:
        return DriverError("agent_failed", f"The agent answered with status {answer.status}.")
    return DriverError(said.code, said.message)
