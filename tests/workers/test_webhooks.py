"""Webhooks on the wire: to the address that was checked and no other, once at least, and none holds up the others."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection, transaction

from kindling_hooks import Receiver, deliveries, hook, private_allowed, receiver_running
from kindling_people import make_customer
from kindling_platform.common.errors import KindlingError
from kindling_platform.hooks import places
from kindling_platform.hooks.models import Delivery, Endpoint, Event
from kindling_platform.hooks.outbox import Due
from kindling_platform.hooks.places import address_standing, place_check
from kindling_platform.hooks.services import endpoint_delete, endpoint_test
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create
from kindling_workers.hook_post import hook_post
from kindling_workers.hooks import AT_ONCE, FAILING, OF_ONE, chosen, delivery_send, hooks_deliver

HEADERS = {"webhook-id": "evt_1", "content-type": "application/json"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiver_running() as running:
        yield running


@pytest.fixture
def at_home(settings) -> None:
    """The operator allows addresses of the installation's own network."""
    settings.KINDLING_ENV = private_allowed()


def named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for these addresses."""
    monkeypatch.setattr(places, "addresses_of", lambda host, port: list(addresses))


def refusal(url: str) -> str:
    with pytest.raises(KindlingError) as refused:
        place_check(url)
    return refused.value.code


@pytest.mark.parametrize(
    ("address", "standing"),
    [
        ("93.184.215.14", "public"), ("2606:2800:21f:cb07::1", "public"), ("127.0.0.1", "private"),
        ("::1", "private"), ("10.1.2.3", "private"), ("192.168.1.1", "private"), ("fd00:ec2::254", "private"),
        ("::ffff:10.0.0.1", "private"), ("64:ff9b::a00:1", "private"), ("2002:a00:1::", "private"),
        ("169.254.169.254", "refused"), ("::ffff:169.254.169.254", "refused"), ("fe80::1%eth0", "refused"),
        ("100.100.100.200", "refused"), ("168.63.129.16", "refused"), ("224.0.0.1", "refused"),
        ("ff02::1", "refused"), ("0.0.0.0", "refused"), ("::", "refused"), ("255.255.255.255", "refused"),
        ("nonsense", "refused"),
    ],
)  # fmt: skip
def test_addresses_that_may_be_connected_to(address: str, standing: str):
    assert address_standing(address) == standing


def test_what_is_refused_at_creation(monkeypatch: pytest.MonkeyPatch, settings):
    for url in (
        "ftp://a.example", "https://", "https://u:p@a.example", "https://a.example/#x", "https://a.example/\n",
        "https://a.example\\@b.example/", "http://a.example", "https://a%2eexample", "https://a.example:99999",
        "https://ä.example", "https://a.example/" + "x" * 500, "", "https://a b.example",
    ):  # fmt: skip
        assert refusal(url) == "webhook_url_invalid", url
    named(monkeypatch)
    assert refusal("https://nobody.example") == "webhook_host_unknown"
    named(monkeypatch, "93.184.215.14", "10.0.0.1")
    assert refusal("https://mixed.example") == "webhook_address_refused"
    named(monkeypatch, "127.0.0.1")
    assert refusal("https://localhost") == "webhook_address_refused"
    settings.KINDLING_ENV = private_allowed()
    assert place_check("http://localhost:8000/in").addresses == ("127.0.0.1",)
    named(monkeypatch, "169.254.169.254")
    assert refusal("http://metadata.example") == "webhook_address_refused"
    named(monkeypatch, "93.184.215.14")
    assert refusal("http://a.example") == "webhook_url_invalid"
    assert place_check("https://a.example").port == 443


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[::1]"])
def test_numbers_that_look_like_names_are_what_they_stand_for(host: str):
    assert refusal(f"https://{host}/") == "webhook_address_refused"


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver, at_home: None):
    receiver.answer = lambda path: (302, {"location": f"{receiver.url}/elsewhere"}, b"x" * 5000)
    outcome = hook_post(receiver.url, body=b"{}", headers=HEADERS)
    assert (outcome.status_code, outcome.is_taken, len(outcome.answer)) == (302, False, 1024)
    ((path, headers, body),) = receiver.got
    assert (path, body, headers["webhook-id"]) == ("/hook", b"{}", "evt_1")
    assert "cookie" not in headers and "accept-encoding" not in headers


def test_the_name_is_not_looked_up_a_second_time(
    receiver: Receiver, at_home: None, monkeypatch: pytest.MonkeyPatch
):
    named(monkeypatch, "127.0.0.1")

    def elsewhere(*_: object, **__: object) -> None:
        raise AssertionError("looked up again")

    monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    outcome = hook_post(f"http://hooks.example.com:{receiver.port}/in", body=b"{}", headers=HEADERS)
    assert outcome.status_code == 200, outcome.error
    assert receiver.got[0][1]["host"] == f"hooks.example.com:{receiver.port}"


@pytest.mark.django_db
def test_a_name_that_means_something_else_by_now_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    named(monkeypatch, "93.184.215.14")
    ada, url = make_customer("ada"), f"https://hooks.example.com:{receiver.port}/in"
    assert place_check(url)
    endpoint, _ = hook(ada, url)
    named(monkeypatch, "127.0.0.1")
    assert delivery_send(endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor).id)
    (row,) = deliveries(endpoint)
    assert (row.state, row.attempts, row.status_code) == ("waiting", 1, None)
    assert "no address on the public internet" in row.error and receiver.got == []


def test_an_endpoint_that_says_nothing_costs_no_more_than_its_time(receiver: Receiver, at_home: None):
    over = threading.Event()
    receiver.answer = lambda path: (200, {}, b"late") if over.wait(5) else (200, {}, b"")
    outcome = hook_post(receiver.url, body=b"{}", headers=HEADERS, timeout_s=0.2)
    over.set()
    assert (outcome.status_code, outcome.error) == (None, "No answer within 0.2 seconds.")
    closed = hook_post("http://127.0.0.1:1/in", body=b"{}", headers=HEADERS)
    assert closed.status_code is None and "127.0.0.1:1" in closed.error


def test_tls_is_checked_against_the_name(tmp_path: Path, at_home: None, monkeypatch: pytest.MonkeyPatch):
    named(monkeypatch, "127.0.0.1")
    server, client = certified(tmp_path, "hooks.example.com")
    with receiver_running(tls=server) as secure:
        for host, known, status in [
            ("hooks.example.com", client, 200), ("other.example.com", client, None), ("hooks.example.com", None, None),
        ]:  # fmt: skip
            url = f"https://{host}:{secure.port}/in"
            outcome = hook_post(url, body=b"{}", headers=HEADERS, tls=known)
            assert outcome.status_code == status, (host, outcome.error)
            assert status or "certificate verify failed" in outcome.error.lower()
    assert len(secure.got) == 1


def test_who_may_begin_beside_whom():
    def due(number: int, org: str, failing: bool = False) -> Due:
        return Due(f"dlv_{number}", f"whk_{number}", org, failing)

    one_org = [due(number, "org_1") for number in range(5)]
    assert len(list(chosen(one_org, []))) == OF_ONE
    assert len(list(chosen(one_org, one_org[:1]))) == OF_ONE - 1
    failing = [due(number, f"org_{number}", True) for number in range(20)]
    sound = [due(number, f"org_{number}") for number in range(20, 40)]
    assert len(list(chosen(failing, []))) == FAILING
    begun = list(chosen(failing + sound, []))
    assert len(begun) == AT_ONCE and sum(one.is_failing for one in begun) == FAILING


@pytest.mark.django_db(transaction=True)
def test_one_that_is_slow_holds_up_nobody_and_two_workers_send_once(receiver: Receiver, at_home: None):
    slow, quick = make_customer("slow"), make_customer("quick")
    first, _ = hook(slow, f"{receiver.url}/slow")
    second, _ = hook(quick, f"{receiver.url}/quick")
    others = threading.Event()

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        if path.endswith("slow"):
            # Ends well only if the others get their turn before it.
            return (200, {}, b"at last") if others.wait(5) else (500, {}, b"alone")
        if sum(path.endswith("quick") for path, _, _ in receiver.got) >= 4:
            others.set()
        return 200, {}, b"ok"

    receiver.answer = answer
    for owner, endpoint, count in ((slow, first, 1), (quick, second, 4)):
        for _ in range(count):
            endpoint_test(org=owner.org, endpoint_id=endpoint.id, actor=owner.actor)
    made: list[int] = []

    def work() -> None:
        made.append(hooks_deliver())
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(made) == 5
    assert len(receiver.ids) == len(set(receiver.ids)) == 5
    sent = deliveries(first) + deliveries(second)
    assert [(row.state, row.status_code) for row in sent] == [("delivered", 200)] * 5
    assert deliveries(first)[0].answer == "at last"


@pytest.mark.django_db(transaction=True)
def test_what_happens_while_an_endpoint_is_deleted_is_not_undone(at_home: None):
    ada = make_customer("ada")
    endpoint, _ = hook(ada)
    begun, made = threading.Event(), threading.Event()

    def cause() -> None:
        with transaction.atomic():
            key_create(org=ada.org, name="meanwhile", scopes=["read"], actor=ada.actor)
            begun.set()
            made.wait(0.3)
        connection.close()

    causing = threading.Thread(target=cause)
    causing.start()
    assert begun.wait(5)
    endpoint_delete(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    causing.join()
    assert ApiKey.objects.filter(organisation=ada.org, name="meanwhile").exists()
    left = Event.objects.for_org(ada.org).count(), Delivery.objects.count()
    assert left == (1, 0) and not Endpoint.objects.exists()


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server that proves to be `name`, and of a client that believes who signed it."""
    key, moment = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(minutes=5))
        .not_valid_after(moment + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(*kinds))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(folder / "cert.pem")
    return server, client
