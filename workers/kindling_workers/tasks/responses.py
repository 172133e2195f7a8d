"""Wake-ups that delete responses, files, batches and opinions whose time is over."""

from kindling_platform.batches.services import batches_purge
from kindling_platform.requestlog.services import request_log_purge
from kindling_platform.responses.services import responses_purge
from kindling_platform.usage.feedback import feedback_purge
from kindling_workers.app import app
from kindling_workers.ticks import tick


@app.task(name="responses.purge")
def purge() -> None:
    with tick("responses.purge") as mine:
        if mine:
            responses_purge()
            request_log_purge()
            batches_purge()
            feedback_purge()
