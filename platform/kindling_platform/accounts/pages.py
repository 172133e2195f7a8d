"""A page says which organisation it shows; what it asks for must not happen in another that was chosen since."""

from collections.abc import Iterable
from dataclasses import dataclass

from kindling_platform.accounts.models import Organisation

# How a page's scripts say it.
ORGANISATION_HEADER = "X-Kindling-Org"


@dataclass(frozen=True, slots=True)
class Changed:
    """The organisation that is worked in now, and that of the page; None when it is not the visitor's any more."""

    now: Organisation
    shown: Organisation | None

    @property
    def title(self) -> str:
        return "You work in another organisation now"

    @property
    def message(self) -> str:
        """What became of the request, as a sentence."""
        if self.shown is None:
            return (
                f"This page was for an organisation that you are not a member of any more; nothing was done. "
                f"You work in {self.now.name} now."
            )
        return (
            f"You changed to {self.now.name} in another tab. "
            f"This page was for {self.shown.name}; nothing was done."
        )


def organisation_changed_find(
    *, shown: str, org: Organisation, others: Iterable[Organisation]
) -> Changed | None:
    """What differs between the organisation that a page shows and the present one; None when nothing does.

    A request that names none is taken as it is: programs have no page.
    """
    if not shown or shown == org.id:
        return None
    return Changed(org, next((one for one in others if one.id == shown), None))
