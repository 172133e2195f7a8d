"""Bases of the platform's tables: prefixed ids that sort by time, and the organisation every query starts at."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from django.db import models

from kindling_platform.common.clock import now
from kindling_platform.common.ids import ID_MAX_CHARS, new_id

if TYPE_CHECKING:
    from kindling_platform.common.tenancy import HasId


def id_field(prefix: str) -> "models.CharField[str, str]":
    """A primary key such as `org_01jd…`."""
    default: Callable[[], str] = partial(new_id, prefix)
    return models.CharField(primary_key=True, max_length=ID_MAX_CHARS, default=default, editable=False)


class Created(models.Model):
    """A row that knows when it was made."""

    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        abstract = True


class OrgQuerySet(models.QuerySet[Any]):
    """Queries of tenant-owned rows."""

    def for_org(self, org: "HasId") -> Self:
        """Only rows of this organisation."""
        return self.filter(organisation_id=org.id)
