"""Pytest plugin: the certificates of the world's authorities are read once.

A client without a context of its own reads them anew: 20 ms for each of a thousand calls, none of which leaves this
machine.
"""

import functools
import ssl

ssl.create_default_context = functools.cache(ssl.create_default_context)
