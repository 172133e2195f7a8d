"""`./kindling up`: starts everything, proves it with a billed token, keeps it alive, stops it."""

import contextlib
import os
import signal
import time
from types import FrameType
from typing import Any

from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.weight_forms import CHECKPOINT
from kindling_platform.config.env import Env, EnvError, load_env
from kindling_platform.embedded.backups.restore import restore_check
from kindling_platform.embedded.children import (
    agent_child,
    beat_child,
    reachable,
    stripe_child,
    web_child,
    worker_child,
)
from kindling_platform.embedded.engine_wait import engine_wait
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.first_token import FirstToken, bill_wait, first_token_get
from kindling_platform.embedded.forks import shared_load
from kindling_platform.embedded.greeting import greeting_print
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock
from kindling_platform.embedded.logs import LOOK_EVERY_S, log_roll, log_tail
from kindling_platform.embedded.open_files import open_files_raise
from kindling_platform.embedded.orphans import orphans_reap
from kindling_platform.embedded.ports import PortHold, address_check
from kindling_platform.embedded.ports_file import ports_hold
from kindling_platform.embedded.preparation import is_prepared, preparation_finish, preparation_start
from kindling_platform.embedded.process import Child
from kindling_platform.embedded.progress import Progress
from kindling_platform.embedded.public_bind import check_bind
from kindling_platform.embedded.rest import call
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers
from kindling_platform.embedded.stand_down import deployment_stand_down
from kindling_platform.embedded.stand_in import stand_in_environ
from kindling_platform.embedded.state import State

TEND_EVERY_S = 0.1
WEB_TIMEOUT_S = 60.0
PLAIN = f" `./kindling up --weights {CHECKPOINT} --kv-dtype {AUTO}` takes it as it comes."
FIRST_TOKEN_TIMEOUT_S = 60.0
BILL_TIMEOUT_S = 30.0


class Stopped(Exception):
    """Somebody asked us to stop."""


class Supervisor:
    """Everything runs in the main thread: children are spawned there and die with it."""

    def __init__(self, home: Home, progress: Progress) -> None:
        self.home = home
        self.progress = progress
        self.children: dict[str, Child] = {}
        self._lock = HomeLock(home)
        self._holds: dict[str, PortHold] = {}
        self._state: State | None = None
        self._untold = False
        self._logs_due_at = 0.0
        self._stand_in: dict[str, str] = {}
        self._stop_asked = False

    def run(self) -> None:
        """Start, print the address, watch until asked to stop. Errors: EmbeddedError of any step."""
        self.home.make()
        # Before the first child, which takes the limit over.
        open_files_raise()
        self._lock.take()
        restore_check(self.home)
        # A supervisor that was killed left its state behind.
        self.home.state.unlink(missing_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        # Who starts us with nohup wants us to outlive the terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_signal)
        try:
            self._start()
            while True:
                self._tend()
                time.sleep(TEND_EVERY_S)
        except Stopped:
            self.progress.say()
        finally:
            self._stop()

    def _start(self) -> None:
        self.progress.say(f"Kindling, state in {self.home.path}\n")
        with self.progress.step("settings and secrets"):
            env, servers = self._configure()
        with self.progress.step("database and cache") as notes:
            places = [self.home.path / name for name in ("postgres", "postgres.location")]
            first = servers.postgres is not None and not any(place.exists() for place in places)
            servers.own_check(database_url=env.database_url, redis_url=env.redis_url)
            servers.launch()
            self.children |= servers.children()
            self._add("agent", agent_child(self.home, self._holds["agent"].port))
            with self.progress.still():
                shared_load()
            servers.wait_ready()
            if first:
                notes.append("(made anew)")
        if self._stand_in:
            self._add("stripe", stripe_child(self.home, env, self._holds["stripe"].port))
        # Loading the web server takes as long as looking at a database that is ready; one that is not is waited for.
        # Forks are made between the steps, while no spinner turns.
        is_early = is_prepared(self.home, env)
        if is_early:
            self._add("web", web_child(self.home, env))
        preparing = preparation_start(self.home)
        with self.progress.step("schema, operator, starter model"):
            facts = preparation_finish(self.home, preparing)
            self._tend()
        if not is_early:
            self._add("web", web_child(self.home, env))
        self._add("worker", worker_child(self.home))
        self._add("beat", beat_child(self.home))
        with self.progress.step("web, gateway, worker, clock"):
            local_url = f"http://{reachable(env.host)}:{env.port}"
            self._wait_for_web(local_url)
        proof = None
        try:
            proof = self._prove(env, local_url, facts)
        except EmbeddedError as error:
            # What worked before is mended in the console: a key, a budget, a model.
            if not facts["is_proven"]:
                deployment_stand_down(
                    web_url=local_url,
                    key=facts["api_key"],
                    agent_url=env.agent_url,
                    agent_token=env.agent_token,
                    deployment_id=facts["deployment_id"],
                )
                raise
            self.progress.warn(error.code, error.message)
        self._state = State(
            url=env.public_url,
            port=env.port,
            pid=os.getpid(),
            children=self._pids(),
            api_key=facts["api_key"],
            model=facts["model"],
            agent_url=env.agent_url,
            database_url=env.database_url,
            redis_url=env.redis_url,
            start_s=self.progress.elapsed_s,
            first_token_s=None if proof is None else proof.at - self.progress.started,
        )
        greeting_print(self.progress, self._state, facts, proof, stand_in=bool(self._stand_in))
        self._untold = True
        self._tell()

    def _prove(self, env: Env, local_url: str, facts: dict[str, Any]) -> FirstToken:
        """A token was generated that is on the bill. Errors: those of the engine, the token, the bill."""
        with self.progress.step(f"engine with {facts['model']}"):
            engine_wait(
                agent_url=env.agent_url,
                token=env.agent_token,
                deployment_id=facts["deployment_id"],
                tend=self._tend,
                say=self.progress.news,
                hint="" if (facts["weights"], facts["kv_dtype"]) == (CHECKPOINT, AUTO) else PLAIN,
            )
        with self.progress.step("first token") as notes:
            key = facts["api_key"]
            token = first_token_get(
                url=local_url,
                key=key,
                model=facts["model"],
                surface=facts["surface"],
                timeout_s=FIRST_TOKEN_TIMEOUT_S,
            )
            cost = bill_wait(url=local_url, key=key, request_id=token.request_id, timeout_s=BILL_TIMEOUT_S)
            notes.append(f"generated and billed, ${cost / 10**12:.6f}")
        return token

    def _configure(self) -> tuple[Env, Servers]:
        try:
            secrets = secrets_ensure(self.home.secrets)
            self._holds = ports_hold(self.home)
        except OSError as error:
            raise self.home.unwritable(error) from error
        ports = {name: hold.port for name, hold in self._holds.items()}
        servers = Servers.plan(self.home, ports, secrets)
        self._stand_in = stand_in_environ(secrets, ports["stripe"])
        os.environ.update(
            servers.environ(),
            **self._stand_in,
            KINDLING_HOME=str(self.home.path),
            KINDLING_AGENT_URL=f"http://127.0.0.1:{ports['agent']}",
        )
        try:
            env = load_env()
        except EnvError as error:
            raise EmbeddedError("settings_invalid", str(error)) from error
        # A host that is nowhere needs no secrets.
        address_check(env.host, 0)
        check_bind(env)
        address_check(env.host, env.port)
        return env, servers

    def _add(self, name: str, child: Child) -> None:
        child.start()
        self.children[name] = child

    def _wait_for_web(self, url: str) -> None:
        deadline = time.monotonic() + WEB_TIMEOUT_S
        web = self.children["web"]
        while (status := call(f"{url}/healthz", token="", timeout_s=5).status) != 200:
            self._check_stop()
            # It answers once its process is there; any other error will not mend itself.
            if not web.is_alive() or status not in {0, 502, 503} or time.monotonic() > deadline:
                log = self.home.log("web")
                raise EmbeddedError(
                    "web_failed",
                    f"The web server did not start (status {status}). The end of {log}:\n{log_tail(log)}",
                )
            time.sleep(0.05)

    def _tend(self) -> None:
        """Start dead children again and tell their new process ids."""
        self._check_stop()
        orphans_reap(self._pids().values())
        tended = [child.tend() for child in self.children.values()]
        self._untold = self._untold or any(tended)
        self._tell()
        if time.monotonic() >= self._logs_due_at:
            self._logs_due_at = time.monotonic() + LOOK_EVERY_S
            for child in self.children.values():
                log_roll(child.command.log_path)

    def _tell(self) -> None:
        if self._untold and self._state:
            self._state.children = self._pids()
            # A full disk takes no new state; the children live all the same, and it is told when there is room.
            with contextlib.suppress(OSError):
                self._state.save(self.home)
                self._untold = False

    def _pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self.children.items() if child.pid is not None}

    def _check_stop(self) -> None:
        if self._stop_asked:
            raise Stopped

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # A second Ctrl-C during the stop changes nothing: every wait there has its limit.
        if self._stop_asked:
            return
        self._stop_asked = True
        raise Stopped

    def _stop(self) -> None:
        self._stop_asked = True
        self.home.state.unlink(missing_ok=True)
        if self.children:
            with self.progress.step("stopped"):
                # Who talks to a server stops before it does; the database goes last.
                for group in (("web", "worker", "beat"), ("agent", "stripe"), ("valkey", "postgres")):
                    stopping = [self.children[name] for name in group if name in self.children]
                    for child in stopping:
                        child.signal_stop()
                    for child in stopping:
                        child.wait_stopped()
        for hold in self._holds.values():
            hold.release()
        self._lock.release()
