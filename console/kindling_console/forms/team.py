"""Who is invited as what, what becomes of a member's role, and of the keys of one who goes."""

from collections.abc import Sequence
from typing import Any

from django import forms

ROLES = {
    "owner": "everything, and owners are made and unmade by owners alone",
    "admin": "everything else in this organisation",
    "developer": "keys, adapters, deployments, playground; sees usage and bills",
    "viewer": "sees what there is, changes nothing",
    "billing": "pays, sets budgets of the organisation, sees usage",
}
KEYS = [("revoke", "Revoke them"), ("keep", "Keep them")]


class RoleForm(forms.Form):
    """One of the roles that the visitor may give."""

    role = forms.ChoiceField(label="Role")

    def __init__(self, *args: Any, roles: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.role_help = [(role, role.capitalize(), ROLES[role]) for role in roles]
        field = self.fields["role"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [(role, label) for role, label, _ in self.role_help]


class InviteForm(RoleForm):
    """An address and a role."""

    email = forms.EmailField(label="E-mail address", max_length=254)


class RemoveForm(forms.Form):
    """What becomes of the keys that somebody has made."""

    keys = forms.ChoiceField(choices=KEYS, label="Keys", initial="revoke")
