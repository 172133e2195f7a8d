"""The rows of a step while it is being planned."""

from kindling_engine.scheduler.plan import ScheduledRow


class StepRows:
    """By request, with the tokens of all: every row that is added asks how many there are, so they are not counted."""

    def __init__(self) -> None:
        self.by_id: dict[str, ScheduledRow] = {}
        self.tokens = 0

    def put(self, row: ScheduledRow) -> None:
        """Add a request's row, or change it."""
        known = self.by_id.get(row.request.id)
        self.tokens += row.count - (0 if known is None else known.count)
        self.by_id[row.request.id] = row

    def drop(self, request_id: str) -> None:
        row = self.by_id.pop(request_id, None)
        self.tokens -= 0 if row is None else row.count
