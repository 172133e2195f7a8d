"""What replicas have said lately, as the agent of their host keeps it."""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from django.conf import settings

from kindling_billing.pooled import connection_lend
from kindling_platform.deployments.models import Deployment

LINES = 300
# Of all replicas together; who asks waits no longer, whatever the agent does.
WITHIN_S = 3.0
# An agent that was silent is left alone for so long, so that many who look hold nobody up.
SILENT_S = 5.0
MOST_BYTES = 1 << 20
# Lines of the engine to its agent: where it listens and what its process is called are the operator's business.
EVENT = '{"event"'


@dataclass(frozen=True, slots=True)
class ReplicaLog:
    """The last lines of one replica, or why they cannot be had."""

    name: str
    rank: int
    text: str = ""
    problem: str = ""


class _Agent:
    """Until when it is left alone, in monotonic seconds, and why."""

    silent_until = 0.0
    problem = ""


def replica_log_list(*, deployment: Deployment, sees_hosts: bool) -> list[ReplicaLog]:
    """Of each of its replicas; for others than the operator without what says where it runs. An agent that does not
    answer is a sentence and no error.
    """
    replicas = list(deployment.replicas.order_by("rank", "-generation"))
    connection_lend()  # while another machine is asked, the database's is of use to somebody else
    until = time.monotonic() + WITHIN_S
    found = []
    for replica in replicas:
        text, problem = _text_of(replica.name, until)
        if not sees_hosts:
            text = "\n".join(line for line in text.splitlines() if not line.startswith(EVENT))
        found.append(ReplicaLog(replica.name, replica.rank, text, problem))
    return found


def _text_of(name: str, until: float) -> tuple[str, str]:
    now = time.monotonic()
    if now < _Agent.silent_until:
        return "", _Agent.problem
    try:
        if now >= until:
            raise TimeoutError("there are too many replicas to ask at once")
        return _read(name, until - now), ""
    except (OSError, http.client.HTTPException) as error:
        problem = f"The agent does not answer: {error}"
        if isinstance(error, TimeoutError) and now < until:
            _Agent.silent_until, _Agent.problem = time.monotonic() + SILENT_S, problem
        return "", problem


def _read(name: str, within_s: float) -> str:
    return agent_read(f"/replicas/{quote(name, safe='')}/logs?tail={LINES}", within_s=within_s)


def agent_read(path: str, *, within_s: float) -> str:
    """What the agent answers to a GET. Errors: OSError, and HTTPException for a refusal."""
    env = settings.KINDLING_ENV
    address = urlsplit(env.agent_url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=within_s)
    try:
        connection.request(
            "GET", f"{address.path}{path}", headers={"authorization": f"Bearer {env.agent_token}"}
        )
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return answer.read(MOST_BYTES).decode(errors="replace")
    finally:
        connection.close()
