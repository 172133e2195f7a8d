"""The database and the cache of the embedded start, or the ones that the settings name instead."""

import os
from dataclasses import dataclass

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.postgres import PostgresServer
from kindling_platform.embedded.process import Child
from kindling_platform.embedded.valkey import ValkeyServer

# A server that has lost its power may read its log for a while.
DATABASE_STARTING_S = 60.0
MEND = " Mend {name}, or leave it out: a start then makes a server of its own."


@dataclass(slots=True)
class Servers:
    """None stands for a server of the user's own."""

    postgres: PostgresServer | None
    valkey: ValkeyServer | None

    @classmethod
    def plan(cls, home: Home, ports: dict[str, int], secrets: dict[str, str]) -> "Servers":
        postgres = valkey = None
        if not os.environ.get("KINDLING_DATABASE_URL"):
            postgres = PostgresServer(
                data_dir=home.path / "postgres",
                port=ports["postgres"],
                password=secrets["KINDLING_POSTGRES_PASSWORD"],
                log_path=home.log("postgres"),
            )
        if not os.environ.get("KINDLING_REDIS_URL"):
            valkey = ValkeyServer(
                folder=home.path / "valkey",
                port=ports["valkey"],
                password=secrets["KINDLING_VALKEY_PASSWORD"],
                log_path=home.log("valkey"),
            )
        return cls(postgres, valkey)

    def environ(self) -> dict[str, str]:
        """The addresses as settings, for ourselves and for the children."""
        found = {}
        if self.postgres:
            found["KINDLING_DATABASE_URL"] = self.postgres.url()
        if self.valkey:
            found["KINDLING_REDIS_URL"] = self.valkey.url()
        return found

    def own_check(self, *, database_url: str, redis_url: str) -> None:
        """Ask the user's own servers once: what waits for them later waits for minutes and in silence.

        Errors: `database_unreachable`, `cache_unreachable`.
        """
        if self.postgres and self.valkey:
            return
        # Most starts have no such server and need not load two clients now.
        from kindling_platform.embedded.probes import cache_ping, database_version

        name = "KINDLING_DATABASE_URL"
        try:
            if not self.postgres:
                database_version(database_url, starting_s=DATABASE_STARTING_S)
            name = "KINDLING_REDIS_URL"
            if not self.valkey:
                cache_ping(redis_url)
        except EmbeddedError as error:
            raise EmbeddedError(error.code, error.message + MEND.format(name=name)) from error

    def launch(self) -> None:
        for server in (self.valkey, self.postgres):
            if server:
                server.launch()

    def wait_ready(self) -> None:
        for server in (self.valkey, self.postgres):
            if server:
                server.wait_ready()

    def children(self) -> dict[str, Child]:
        named = {"postgres": self.postgres, "valkey": self.valkey}
        return {name: server.child for name, server in named.items() if server and server.child}
