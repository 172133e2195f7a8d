"""What the frame around every page shows; each part is read only when a template asks for it."""

from functools import cache
from typing import Any

from django.http import HttpRequest

from kindling_billing.collecting import invoice_list_holding
from kindling_billing.selectors import balance_get
from kindling_console.access import Visitor, visitor_of
from kindling_console.navigation import nav_groups
from kindling_platform.accounts.provider import provider_find
from kindling_platform.accounts.stops import Stop, stop_find
from kindling_platform.catalog.selectors import stand_in_list
from kindling_platform.common.kept_mail import kept_folder
from kindling_platform.deployments.shortages import Shortage, shortage_find
from kindling_platform.status.selectors import notice_list_active

THEMES = ("light", "dark")


def console(request: HttpRequest) -> dict[str, Any]:
    """Template variables of the frame: visitor, nav, balance, theme, what stops requests, whether mail is kept, …"""
    theme = request.COOKIES.get("theme", "")
    # Templates call what can be called; `cache` keeps a second mention from asking again.
    return {
        "mail_goes_to_files": kept_folder() is not None,
        "theme": theme if theme in THEMES else "",
        "visitor": cache(lambda: visitor_of(request)),
        "nav": cache(lambda: _nav(request)),
        "balance": cache(lambda: _balance(visitor_of(request))),
        "stop": cache(lambda: _stop(visitor_of(request))),
        "shortage": cache(lambda: _shortage(visitor_of(request))),
        "owed": cache(lambda: _owed(visitor_of(request))),
        "notices_active": cache(lambda: _notices(visitor_of(request))),
        "stand_ins": cache(lambda: _stand_ins(visitor_of(request))),
    }


def _nav(request: HttpRequest) -> list[Any]:
    visitor = visitor_of(request)
    return nav_groups(visitor, request.path) if visitor else []


def _balance(visitor: Visitor | None) -> int | None:
    if visitor is None or not visitor.may("billing.read"):
        return None
    return balance_get(owner_id=visitor.org.id).picousd


def _stop(visitor: Visitor | None) -> Stop | None:
    return stop_find(org=visitor.org) if visitor and not visitor.is_barred else None


def _shortage(visitor: Visitor | None) -> Shortage | None:
    return shortage_find(org=visitor.org) if visitor and not visitor.is_barred else None


def _owed(visitor: Visitor | None) -> list[Any]:
    """The invoices that stop requests, for those who may pay them here."""
    if visitor is None or not visitor.may("billing.pay") or provider_find() is None:
        return []
    return list(invoice_list_holding(owner_id=visitor.org.id))


def _notices(visitor: Visitor | None) -> list[Any]:
    """What the operator says goes on now, on pages of those who are signed in; others have the status page."""
    return notice_list_active() if visitor else []


def _stand_ins(visitor: Visitor | None) -> list[Any]:
    return list(stand_in_list(org=visitor.org if visitor and not visitor.is_barred else None))
