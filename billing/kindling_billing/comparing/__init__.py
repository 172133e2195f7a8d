"""Compares each movement at the provider with clearing and with what was asked for; says why, and what to do."""
