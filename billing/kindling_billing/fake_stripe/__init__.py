"""A stand-in for Stripe: the endpoints that Kindling uses, with the same idempotency, events and hosted pages.

No money moves. It runs as a process of its own on the loopback, keeps everything in one SQLite file, and knows nothing
of Django or of Stripe's client: the real client talks to it by its address.
"""
