"""What beat sends and how often. A tick that nobody took in time expires: the next one does its work."""

from typing import TypedDict


class Tick(TypedDict):
    """An entry of Celery's beat schedule; `schedule` in seconds."""

    task: str
    schedule: float
    options: dict[str, float]


def _tick(task: str, every_s: float) -> Tick:
    return {"task": task, "schedule": every_s, "options": {"expires": max(5.0, 2 * every_s)}}


BEAT_SCHEDULE: dict[str, Tick] = {
    "ingest usage": _tick("usage.ingest", 1.0),
    "book spooled usage": _tick("usage.book", 1.0),
    "compare witnesses": _tick("usage.compare", 60.0),
    "sweep deployments": _tick("deployments.sweep", 2.0),
    "measure models": _tick("catalog.measure", 60.0),
    "meter replicas": _tick("deployments.meter", 30.0),
    "bill GPU time": _tick("deployments.bill", 30.0),
    "sweep adapters": _tick("adapters.sweep", 10.0),
    "put adapters into the object store": _tick("adapters.store", 30.0),
    "tidy adapters' files": _tick("adapters.tidy", 3600.0),
    "clear deleted organisations": _tick("departures.sweep", 10.0),
    "forget what deletions left": _tick("departures.tidy", 3600.0),
    "refresh wallets": _tick("wallets.refresh", 60.0),
    "expire credit": _tick("books.expire", 60.0),
    "make invoices": _tick("books.invoice", 600.0),
    "chase unpaid invoices": _tick("books.chase", 3600.0),
    "prove the books": _tick("books.prove", 3600.0),
    "rate anew": _tick("books.rerate", 10.0),
    "delete old responses": _tick("responses.purge", 60.0),
    "end what is seen as others": _tick("seeing.expire", 60.0),
    "look at every component": _tick("status.sample", 30.0),
    "send webhooks": _tick("hooks.deliver", 2.0),
    "tell of batches that have ended": _tick("hooks.batches", 10.0),
    "delete what is old": _tick("retention.sweep", 1800.0),
    "send alerts": _tick("limits.alerts", 60.0),
    "send to the payment provider": _tick("payments.sweep", 2.0),
    "top up": _tick("payments.topups", 2.0),
    "charge invoices": _tick("payments.invoices", 600.0),
    "catch up with the payment provider": _tick("payments.events", 300.0),
    "reconcile payments": _tick("payments.reconcile", 3600.0),
    "send letters about money": _tick("payments.letters", 10.0),
}
