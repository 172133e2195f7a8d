"""The state folder: secrets for their owner alone, ports that stay, data that is found again."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kindling_platform.embedded import account
from kindling_platform.embedded.account import (
    Account,
    is_reachable,
    location_file,
    location_note,
    reachable_copy,
    reachable_folder,
)
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import address_check, hold_port
from kindling_platform.embedded.ports_file import ports_hold
from kindling_platform.embedded.secrets import secrets_ensure, secrets_read
from kindling_platform.keys.secret import is_wellformed


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_secrets_are_made_once_and_are_private(home: Home):
    first = secrets_ensure(home.secrets)
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o600
    assert is_wellformed(first["KINDLING_BOOTSTRAP_API_KEY"])
    assert secrets_ensure(home.secrets) == first == secrets_read(home.secrets)


def test_what_is_kept_is_nobody_elses_to_read(home: Home):
    (home.path / "mail").chmod(0o755)  # as mail's own backend makes it
    home.make()
    folders = [one for one in home.path.iterdir() if one.is_dir()]
    assert {one.name for one in folders} >= {"mail", "blobs", "uploads", "usage", "logs", "run"}
    assert {stat.S_IMODE(one.stat().st_mode) for one in folders} == {0o700}


def test_secret_that_is_missing_is_added_and_others_stay(home: Home):
    home.secrets.write_text("# mine\nKINDLING_SECRET_KEY=chosen\nOTHER = kept\n")
    found = secrets_ensure(home.secrets)
    assert found["KINDLING_SECRET_KEY"] == "chosen" and found["OTHER"] == "kept"
    assert len(found["KINDLING_KEY_PEPPER"]) == 64


def test_ports_stay_the_same_until_one_is_taken(home: Home):
    first = ports_hold(home)
    ports = {name: hold.port for name, hold in first.items()}
    for hold in first.values():
        hold.release()
    second = ports_hold(home)
    assert {name: hold.port for name, hold in second.items()} == ports
    for hold in second.values():
        hold.release()
    with socket.create_server(("127.0.0.1", ports["valkey"])):
        third = ports_hold(home)
    assert third["postgres"].port == ports["postgres"]
    assert third["valkey"].port != ports["valkey"]
    for hold in third.values():
        hold.release()


def test_held_port_is_given_to_nobody_but_can_be_listened_on():
    holds = [hold_port() for _ in range(50)]
    assert len({hold.port for hold in holds}) == 50
    with socket.create_server(("127.0.0.1", holds[0].port)):
        with pytest.raises(EmbeddedError, match=f"KINDLING_PORT={holds[0].port + 1} ./kindling up") as taken:
            address_check("127.0.0.1", holds[0].port)
        assert taken.value.code == "port_in_use"
        assert hold_port(holds[0].port).port != holds[0].port
    for hold in holds:
        hold.release()


@pytest.mark.parametrize("host", ["nonsense.invalid", "192.0.2.1", "2001:db8::1", "a" * 64, ".."])
def test_host_that_is_no_address_of_this_machine_is_no_taken_port(host: str):
    for port in (0, 8000):
        with pytest.raises(EmbeddedError, match="is no address of this machine") as refused:
            address_check(host, port)
        assert refused.value.code == "host_unknown"


def test_port_that_the_account_may_not_have_is_no_taken_one(monkeypatch: pytest.MonkeyPatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(EmbeddedError) as refused:
        address_check("127.0.0.1", 80)
    assert refused.value.code == "port_forbidden"


def test_private_folder_is_not_reachable_for_another_account(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    stranger = Account(uid=os.geteuid() + 4242, gid=4242)
    assert not is_reachable(closed / "file", stranger)
    assert is_reachable(Path("/usr/bin/env"), stranger)
    assert is_reachable(closed / "file", None)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Opens or closes what lies above a data folder, and looks where its data goes."""
    monkeypatch.setattr(account, "SHARED_ROOT", tmp_path / "shared")
    stranger = Account(uid=os.geteuid() + 4242, gid=4242)

    def look(is_open: bool, home: str = "home") -> Path:
        monkeypatch.setattr(account, "is_reachable", lambda *_: is_open)
        return reachable_folder(tmp_path / home / "postgres", stranger, kept="PG_VERSION")

    return look


def fill(home: Path, place: Path) -> None:
    """As a first start does: a cluster, and then the note where it is."""
    home.mkdir(exist_ok=True)
    place.mkdir(parents=True)
    (place / "PG_VERSION").write_text("17")
    location_note(home / "postgres", place)


def test_data_out_of_reach_stays_where_it_was_put_when_its_place_is_opened(
    opened: Callable[..., Path], tmp_path: Path
):
    elsewhere = opened(False)
    fill(tmp_path / "home", elsewhere)
    assert "shared" in elsewhere.parts
    assert opened(True) == elsewhere == opened(False)


def test_data_out_of_reach_is_found_by_a_state_folder_of_another_name(
    opened: Callable[..., Path], tmp_path: Path
):
    elsewhere = opened(False)
    fill(tmp_path / "home", elsewhere)
    (tmp_path / "home").rename(tmp_path / "moved")
    assert opened(False, "moved") == elsewhere == opened(True, "moved")
    # A new installation under the old name gets a place of its own.
    assert opened(False) != elsewhere


def test_data_that_should_be_elsewhere_and_is_not_is_not_begun_anew(
    opened: Callable[..., Path], tmp_path: Path
):
    elsewhere = opened(False)
    fill(tmp_path / "home", elsewhere)
    elsewhere.rename(tmp_path / "lost")
    for is_open in (False, True):
        with pytest.raises(EmbeddedError, match=r"postgres\.location") as missing:
            opened(is_open)
        assert missing.value.code == "data_missing"
    location_file(tmp_path / "home/postgres").unlink()
    assert opened(True) == tmp_path / "home/postgres"


def test_data_whose_place_is_closed_is_not_begun_anew(opened: Callable[..., Path], tmp_path: Path):
    here = opened(True)
    fill(tmp_path / "home", here)
    with pytest.raises(EmbeddedError, match="chmod") as closed:
        opened(False)
    assert closed.value.code == "data_unreachable"
    assert opened(True) == here


def test_programs_out_of_reach_are_copied_with_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kindling_platform.embedded.account.SHARED_ROOT", tmp_path / "shared")
    source = tmp_path / "closed"
    (source / "tool/bin").mkdir(parents=True)
    (source / "tool.libs").mkdir()
    (source / "tool/bin/run").write_text("#!")
    (source / "tool.libs/lib.so").write_text("lib")
    source.chmod(0o700)
    stranger = Account(uid=os.geteuid() + 4242, gid=4242)
    copied = reachable_copy(source, ("tool/bin", "tool.libs", "absent"), stranger)
    assert copied != source
    assert (copied / "tool/bin/run").read_text() == "#!" and (copied / "tool.libs/lib.so").exists()
    assert reachable_copy(source, ("tool/bin", "tool.libs", "absent"), stranger) == copied
    assert reachable_copy(source, ("tool/bin",), None) == source


def test_copied_programs_are_open_to_all_whatever_roots_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(account, "SHARED_ROOT", tmp_path / "shared")
    source = tmp_path / "closed"
    (source / "tool/bin").mkdir(parents=True)
    (source / "tool/bin/run").write_text("#!")
    (source / "tool/bin/notes").write_text("")
    for path in (source / "tool/bin/run", source / "tool/bin", source / "tool", source):
        path.chmod(0o700)
    stranger = Account(uid=os.geteuid() + 4242, gid=4242)
    before = os.umask(0o077)
    try:
        copied = reachable_copy(source, ("tool/bin",), stranger)
    finally:
        os.umask(before)

    def modes() -> list[int]:
        names = ("", "tool", "tool/bin", "tool/bin/run", "tool/bin/notes")
        return [stat.S_IMODE((copied / name).stat().st_mode) & 0o055 for name in names]

    assert modes() == [0o055, 0o055, 0o055, 0o055, 0o044]
    # A copy that an older version made for root alone is opened.
    for path in (copied / "tool/bin", copied / "tool", copied):
        path.chmod(0o700)
    assert reachable_copy(source, ("tool/bin",), stranger) == copied
    assert modes() == [0o055, 0o055, 0o055, 0o055, 0o044]
