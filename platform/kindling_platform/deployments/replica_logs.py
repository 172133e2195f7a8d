"""What replicas have said lately, as the agent of their host keeps it."""

import http.client
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from django.conf import settings

from kindling_platform.accounts.models import Organisation
from kindling_platform.deployments.selectors import deployment_get

LINES = 300
TIMEOUT_S = 5.0
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReplicaLog:
    """The last lines of one replica, or why they cannot be had."""

    name: str
    rank: int
    text: str = ""
    problem: str = ""


def replica_log_list(*, org: Organisation, deployment_id: str) -> list[ReplicaLog]:
    """Of each replica of a deployment of the organisation's own; whoever runs the installation sees all. An agent that
    does not answer is a sentence and no error.

    Raises:
        KindlingError: not_found.
    """
    deployment = deployment_get(org=None if org.is_operator else org, deployment_id=deployment_id)
    found = []
    for replica in deployment.replicas.order_by("rank", "-generation"):
        try:
            text = _read(replica.name)
        except (OSError, http.client.HTTPException) as error:
            found.append(
                ReplicaLog(replica.name, replica.rank, problem=f"The agent does not answer: {error}")
            )
        else:
            found.append(ReplicaLog(replica.name, replica.rank, text=text))
    return found


def _read(name: str) -> str:
    """Errors: OSError and HTTPException, also for an answer that is no log."""
    env = settings.KINDLING_ENV
    address = urlsplit(env.agent_url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=TIMEOUT_S)
    try:
        path = f"{address.path}/replicas/{quote(name, safe='')}/logs?tail={LINES}"
        connection.request("GET", path, headers={"authorization": f"Bearer {env.agent_token}"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return answer.read(MOST_BYTES).decode(errors="replace")
    finally:
        connection.close()
