"""The `kindling` command: a client of the REST API, nothing more."""
