"""What can be said of a browser's request."""

from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str | None:
    """The address of the caller as the server saw it; proxies are uvicorn's `--forwarded-allow-ips`."""
    return request.META.get("REMOTE_ADDR") or None
