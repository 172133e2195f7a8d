"""What a deployment's engines have said lately; for those who pay for it, and the operator."""

from django.http import HttpRequest, HttpResponse

from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_platform.deployments.replica_logs import LINES, replica_log_list
from kindling_platform.deployments.selectors import deployment_get


@page("deployments.read")
def deployment_logs(request: HttpRequest, visitor: Visitor, deployment_id: str) -> HttpResponse:
    """The last lines of each replica; they follow by themselves."""
    deployment = deployment_get(org=None if visitor.is_operator else visitor.org, deployment_id=deployment_id)
    logs = replica_log_list(deployment=deployment, sees_hosts=visitor.is_operator)
    context = {"deployment": deployment, "logs": logs, "lines": LINES}
    return show(request, "console/deployment_logs.html", context, part="console/parts/replica_logs.html")
