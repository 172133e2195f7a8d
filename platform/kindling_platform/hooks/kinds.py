"""The kinds of events that an organisation can have sent to it with what each says to people, and bounds."""

KINDS: dict[str, str] = {
    "adapter.ready": "An adapter passed its checks and can be called",
    "adapter.rejected": "An adapter was refused, with the reasons",
    "balance.low": "The balance fell below the threshold of its alert",
    "batch.cancelled": "A batch was ended with what it had",
    "batch.completed": "A batch is done",
    "batch.expired": "A batch was not done within its day",
    "batch.failed": "A batch could not be done",
    "budget.alert": "A share of a budget is spent",
    "deployment.degraded": "A deployment answers with fewer replicas than it should",
    "deployment.failed": "A deployment does not start",
    "deployment.live": "A deployment answers",
    "deployment.stopped": "A deployment has stopped",
    "invoice.finalised": "An invoice is issued",
    "key.created": "An API key was made",
    "key.revoked": "An API key was revoked",
    "key.rotated": "An API key got a successor",
    "member.joined": "Somebody joined the organisation",
    "member.removed": "Somebody left the organisation",
    "payment.failed": "A payment came to nothing",
    "payment.succeeded": "A payment arrived",
}
URL_CHARS, DESCRIPTION_CHARS = 500, 200
# Sent when somebody asks for it, to the one endpoint that is asked about; nobody has to choose it.
TEST = "webhook.test"
BATCH_ENDS = {
    "cancelled": "batch.cancelled",
    "completed": "batch.completed",
    "expired": "batch.expired",
    "failed": "batch.failed",
}
