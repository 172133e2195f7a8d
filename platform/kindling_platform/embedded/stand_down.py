"""What a first start leaves behind when its model does not answer."""

from kindling_platform.embedded.rest import call


def deployment_stand_down(
    *, web_url: str, key: str, agent_url: str, agent_token: str, deployment_id: str
) -> None:
    """Stop the deployment of a model that has never worked: later starts, which may be with another model, would start
    it beside theirs. One that names the model again starts it again.
    """
    call(f"{web_url}/api/v1/deployments/{deployment_id}/stop", token=key, method="POST", body={})
    # The agent would bring back what it was told to run, and the worker may be stopped before it says otherwise.
    reply = call(f"{agent_url}/replicas", token=agent_token)
    for replica in reply.body.get("replicas", []) if reply.status == 200 else []:
        if replica["name"].startswith(deployment_id):
            call(f"{agent_url}/replicas/{replica['name']}", token=agent_token, method="DELETE")
