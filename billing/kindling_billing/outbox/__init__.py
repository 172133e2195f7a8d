"""Requests to the payment provider: written with their cause, sent afterwards, resolved whatever happens in between."""
