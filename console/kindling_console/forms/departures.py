"""What cannot be undone: what is typed to confirm it, and the money that is given up."""

import re
from typing import Any

from django import forms

GIVEN_UP = re.compile(r"(org_[0-9a-z]{26}):([0-9]{1,15})")


class ConfirmForm(forms.Form):
    """Something typed; the service says whether it is the right thing, and whether enough is given up."""

    confirm = forms.CharField(max_length=254)
    give_up = forms.Field(required=False)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        ticked = data.getlist("give_up") if data else []
        self.ticked = [text for text in ticked if GIVEN_UP.fullmatch(text)]

    @property
    def give_up_cents(self) -> dict[str, int]:
        """Cents by organisation, of the boxes that were ticked: each says how much it stood for."""
        found = (GIVEN_UP.fullmatch(text) for text in self.ticked)
        return {one[1]: int(one[2]) for one in found if one}


class AccountDeleteForm(ConfirmForm):
    """As above, and what becomes of keys where an organisation goes on."""

    keys = forms.ChoiceField(
        choices=[("revoke", "Revoke them"), ("keep", "Keep them")], initial="revoke", required=False
    )
