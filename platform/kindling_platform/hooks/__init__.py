"""Webhooks of organisations: what happened to their things, sent to addresses of theirs, signed (Standard Webhooks)."""
