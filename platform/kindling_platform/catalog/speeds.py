"""Reads how fast models answered lately."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import ModelSpeed
from kindling_platform.common.clock import now

EVERYBODY = ""
# Figures that are no longer measured, because no worker runs, say nothing of the last hours.
FRESH = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Speeds:
    """What is known of one model: over all organisations, and of the asking one's own requests."""

    everybody: ModelSpeed | None = None
    own: ModelSpeed | None = None

    @property
    def shown(self) -> ModelSpeed | None:
        """The one to compare models by."""
        return self.everybody or self.own


NO_SPEEDS = Speeds()


def speeds_map(*, org: Organisation, model_ids: Iterable[str]) -> dict[str, Speeds]:
    """Speeds of models by id, those that were measured too little absent; nothing of any other organisation alone."""
    rows = ModelSpeed.objects.filter(
        organisation_id__in=(EVERYBODY, org.id), model_id__in=list(model_ids), window_end__gte=now() - FRESH
    )
    found: defaultdict[str, dict[str, ModelSpeed]] = defaultdict(dict)
    for row in rows:
        found[row.model_id]["everybody" if row.is_everybodys else "own"] = row
    return {model_id: Speeds(**each) for model_id, each in found.items()}
