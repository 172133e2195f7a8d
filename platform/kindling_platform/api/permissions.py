"""Every view names the action that each of its methods needs; without a name nobody gets in."""

from typing import TYPE_CHECKING

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from kindling_platform.accounts.reauthentication import recent_check
from kindling_platform.api.caller import OPERATOR_ACTIONS, Caller
from kindling_platform.common.errors import KindlingError

if TYPE_CHECKING:
    # Importing it here would go round in a circle: the views load the default permissions.
    from rest_framework.views import APIView

ANY_CALLER = "any"


class MayAct(BasePermission):
    """Refuses with 401 without a caller, with 403 when role or scopes do not suffice."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        caller = request.auth
        if not isinstance(caller, Caller):
            text = "Send an API key as 'Authorization: Bearer <key>', or sign in."
            raise KindlingError("not_authenticated", text, 401)
        actions: dict[str, str] = getattr(view, "actions", {})
        if request.method == "OPTIONS":
            raise MethodNotAllowed("OPTIONS")
        action = actions.get("GET" if request.method == "HEAD" else str(request.method))
        if action is None:
            # An unknown method is answered with 405 behind this; anything known must be listed.
            return not hasattr(view, str(request.method).lower())
        if action.startswith(OPERATOR_ACTIONS) and not caller.org.is_operator:
            # For tenants these addresses lead nowhere, whatever stands in them.
            raise KindlingError("not_found", "There is nothing at this address.", 404)
        if caller.org.suspended_at is not None and action.endswith(".write"):
            text = (
                "The operator of this platform has suspended your organisation: you may look at everything, pay open "
                "invoices and change nothing else. Ask the operator why and what ends it."
            )
            raise KindlingError("account_suspended", text, 412)
        if action == ANY_CALLER or caller.may(action):
            asks = action == "operator.write" or request.method in getattr(view, "confirmed", ())
            if caller.key is None and asks:
                # A key is shown with every request; a session may have been left open. What the operator changes
                # is money or others' organisations.
                recent_check(request._request)
            return True
        if scope := caller.lacks(action):
            raise KindlingError("scope_missing", f"This API key lacks the scope {scope!r}.", 403)
        if caller.key is not None:
            text = f"This API key may do what its maker may, and the role {caller.role} does not allow this."
            raise KindlingError("role_insufficient", text, 403)
        raise KindlingError("role_insufficient", "Your role in this organisation does not allow this.", 403)
