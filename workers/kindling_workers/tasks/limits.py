"""Wake-ups of the letters about budgets."""

from smtplib import SMTPException

from kindling_platform.keys.alerts import alerts_send
from kindling_workers.app import app
from kindling_workers.complaints import complaints
from kindling_workers.ticks import tick


@app.task(name="limits.alerts")
def alerts() -> None:
    with tick("limits.alerts") as mine:
        if not mine:
            return
        try:
            alerts_send()
        except (SMTPException, OSError) as error:
            # The letters stay noted; the next tick tries again.
            complaints.complain("limits.alerts mail", f"{type(error).__name__}: {error}")
        else:
            complaints.content("limits.alerts mail")
