"""Signing in by OpenID Connect, as allauth does it, with what its own provider leaves out."""
