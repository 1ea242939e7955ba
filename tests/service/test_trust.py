"""Tokens and certificates: who is let in, who is not, and what they are told."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.threads import deferToThread

from syndicate.audit.interface import Wanted
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.interface import Identity
from syndicate.domain.errors import Conflict, Forbidden, NotFound, Unauthorized, Unavailable
from syndicate.domain.volunteer import VolunteerState
from syndicate.manager.attempts import MOST_ADDRESSES, Attempts
from syndicate.manager.trust import Joiner, Trust
from tests.service.test_api import Door, Make, make_door
from tests.support.cluster import Cluster

__all__ = ["make_door"]

ensure = pytest_twisted.ensureDeferred


def a_request(path: Path, name: str) -> dict[str, str]:
    """What a volunteer sends."""
    return {"name": name, "request": VolunteerIdentity(path, name).request()}


async def a_token(door: Door, who: str = "boss", **asked: Any) -> dict[str, Any]:
    code, made = await door.ask("POST", "/v1/tokens", who, json={"user": "x", **asked})
    assert code == 201, made
    return dict(made)


# Tokens.


@ensure
async def test_a_revoked_token_is_refused_with_who_did_it(make_door: Make) -> None:
    door = make_door(1)
    made = await a_token(door, role="user", user="eve")
    assert (await door.ask("GET", "/v1/jobs", made["secret"]))[0] == 200
    code, told = await door.ask("POST", f"/v1/tokens/{made['id']}/revoke", "boss", json={})
    assert (code, told["token"]["state"], told["token"]["revoked_by"]) == (200, "revoked", "boss")
    code, told = await door.ask("GET", "/v1/jobs", made["secret"])
    assert (code, told["error"]["code"]) == (401, "unauthorized")
    assert "revoked by boss" in told["error"]["message"]
    assert made["secret"] not in str(told)
    code, told = await door.ask("POST", f"/v1/tokens/{made['id']}/revoke", "boss", json={})
    assert code == 409


@ensure
async def test_tokens_are_listed_without_their_secrets(make_door: Make) -> None:
    door = make_door(1)
    made = await a_token(door, role="user", user="eve", expires_in=60)
    code, told = await door.ask("GET", "/v1/tokens", "boss")
    assert code == 200
    assert made["id"] in [each["id"] for each in told["tokens"]]
    assert made["secret"] not in str(told)
    assert not [each for each in told["tokens"] if "sha256" in each]
    assert (await door.ask("GET", "/v1/tokens", "ann"))[0] == 403


@ensure
async def test_staff_cannot_revoke_what_operators_have(make_door: Make) -> None:
    door = make_door(1)
    secret, token = door.cluster.manager.tokens.make("operator", "ops", None)
    door.cluster.manager.tokens.add([token])
    assert (await door.ask("POST", f"/v1/tokens/{token.id}/revoke", "boss", json={}))[0] == 403
    assert (await door.ask("POST", f"/v1/tokens/{token.id}/revoke", "ann", json={}))[0] == 403
    assert (await door.ask("POST", "/v1/tokens/none/revoke", "boss", json={}))[0] == 404
    assert (await door.ask("POST", f"/v1/tokens/{token.id}/revoke", secret, json={}))[0] == 200


@ensure
async def test_staff_cannot_make_themselves_operators(make_door: Make) -> None:
    door = make_door(1)
    asked = {"role": "operator", "user": "boss"}
    code, told = await door.ask("POST", "/v1/tokens", "boss", json=asked)
    assert (code, told["error"]["code"]) == (403, "forbidden")
    secret, token = door.cluster.manager.tokens.make("operator", "ops", None)
    door.cluster.manager.tokens.add([token])
    assert (await door.ask("POST", "/v1/tokens", secret, json=asked))[0] == 201
    for role in ("user", "staff", "volunteer"):
        asked["role"] = role
        assert (await door.ask("POST", "/v1/tokens", "boss", json=asked))[0] == 201
        assert (await door.ask("POST", "/v1/tokens", "ann", json=asked))[0] == 403


@ensure
async def test_after_ten_wrong_secrets_an_address_is_told_to_wait(make_door: Make) -> None:
    door = make_door(1)
    for _ in range(10):
        assert (await door.ask("GET", "/v1/jobs", "wrong"))[0] == 401
    answer = await door.open("GET", "/v1/jobs", "wrong")
    assert answer.code == 429
    assert 1 <= int(answer.headers.getRawHeaders("retry-after")[0]) <= 61
    await answer.content()
    # Whoever shares the address with it is not kept out, and the log has ten entries, not more.
    assert (await door.ask("GET", "/v1/jobs", "ann"))[0] == 200
    recorded = await door.cluster.audit.tail(100, Wanted(did="login"))
    assert len(recorded) == 10


@ensure
@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("PUT", "/v1/logs/1/1/master", "wrong"),
        ("GET", "/v1/jobs", "v"),
        ("PUT", f"/v1/blobs/{'0' * 64}", "v"),
        ("POST", "/v1/certificates", "ann"),
    ],
)
async def test_no_door_lets_one_try_for_ever(
    make_door: Make, method: str, path: str, who: str
) -> None:
    door = make_door(1)
    codes = [(await door.ask(method, path, who, data=b"{}"))[0] for _ in range(13)]
    assert codes[:10] == [codes[0]] * 10
    assert codes[0] in (401, 403)
    assert codes[10:] == [429] * 3
    assert len(await door.cluster.audit.tail(100, Wanted())) == 10


@ensure
async def test_nothing_is_kept_of_what_a_stranger_sends(make_door: Make) -> None:
    """The answer comes before the body, of which there could be one on each of many connections."""
    door = make_door(1)
    host, port = door.url.removeprefix("http://").split(":")

    def begin(path: str, *lines: str) -> bytes:
        head = (f"POST {path} HTTP/1.1", "Host: x", *lines, "", "")
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall("\r\n".join(head).encode() + b"{")
            connection.settimeout(1)
            try:
                return connection.recv(12)
            except TimeoutError:
                return b""

    length, chunks = "Content-Length: 900000", "Transfer-Encoding: chunked"
    for path in ("/v1/jobs", "/v1/certificates", "/v1/version", "/v1/nothing"):
        for how in (length, chunks):
            assert await deferToThread(begin, path, how) == b"HTTP/1.1 401"
    wrong = f"Authorization: Bearer {'x' * 47}"
    assert await deferToThread(begin, "/v1/jobs", length, wrong) == b"HTTP/1.1 401"
    known = f"Authorization: Bearer {door.secrets['ann']}"
    assert await deferToThread(begin, "/v1/jobs", length, known) == b""


def test_tokens_and_revocations_outlive_the_manager(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(1)
    trust = cluster.manager.trust
    kept, token = cluster.result_of(trust.new_token("user", "ann", None))
    gone, other = cluster.result_of(trust.new_token("user", "bob", None))
    cluster.result_of(trust.revoke_token(other.id, "ops"))
    cluster.restart_manager()
    trust = cluster.manager.trust
    assert trust.check_token(kept, "here") == token
    with pytest.raises(Unauthorized, match="revoked by ops"):
        trust.check_token(gone, "here")


def test_a_token_from_a_file_can_be_revoked_for_good(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(1)
    given = [("syn_" + "j" * 43, "volunteer", "volunteer")]
    trust = cluster.manager.trust
    trust.load({}, given)
    cluster.result_of(trust.revoke_token(trust.check_token(given[0][0], "here").id, "ops"))
    cluster.restart_manager()
    trust = cluster.manager.trust
    trust.load(cluster.result_of(cluster.store.load()).records, given)
    with pytest.raises(Unauthorized, match="revoked by ops"):
        trust.check_token(given[0][0], "here")


def test_attempts_are_forgotten_at_a_steady_pace_and_memory_is_bounded() -> None:
    from twisted.internet.task import Clock

    clock = Clock()
    attempts = Attempts(clock, most=3, span=30.0)
    assert [attempts.count("a") for _ in range(5)] == [True, True, True, False, False]
    assert attempts.too_many("a")
    assert not attempts.too_many("b")
    clock.advance(attempts.wait("a") + 0.01)
    assert attempts.count("a")
    for number in range(3 * MOST_ADDRESSES):
        attempts.count(str(number))
    assert len(attempts._counts) == MOST_ADDRESSES


# Certificates.


@ensure
async def test_a_join_token_gets_a_certificate_that_is_good_for_one_name_only(
    make_door: Make, tmp_path: Path
) -> None:
    door = make_door(1)
    code, told = await door.ask("POST", "/v1/certificates", "v", json=a_request(tmp_path, "v7"))
    assert code == 201, told
    made = x509.load_pem_x509_certificate(told["certificate"].encode())
    key = VolunteerIdentity(tmp_path, "v7").key()
    assert made.public_key() == key.public_key()
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["v7"]
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_volunteers_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    identity = VolunteerIdentity(tmp_path / "identity", "v7")
    identity.request()
    assert identity.key_file.stat().st_mode & 0o777 == 0o600
    assert identity.directory.stat().st_mode & 0o777 == 0o700


@ensure
async def test_people_and_strangers_get_no_certificate(make_door: Make, tmp_path: Path) -> None:
    door = make_door(1)
    asked = a_request(tmp_path, "v7")
    for who, expected in (("ann", 403), ("boss", 403), ("wrong", 401), (None, 401)):
        assert (await door.ask("POST", "/v1/certificates", who, json=asked))[0] == expected
    revoked = await a_token(door, role="volunteer", user="old")
    await door.ask("POST", f"/v1/tokens/{revoked['id']}/revoke", "boss", json={})
    code, told = await door.ask("POST", "/v1/certificates", revoked["secret"], json=asked)
    assert (code, "revoked" in told["error"]["message"]) == (401, True)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"name": "v7"},
        {"name": "v7", "request": 7},
        {"name": "v7", "request": "none"},
        {"name": "v7", "request": "x" * 5000},
        {"name": "", "request": ""},
        {"name": "../v7", "request": ""},
        {"name": "v 7", "request": ""},
        {"name": "v" * 64, "request": ""},
        {"name": ["v7"], "request": ""},
    ],
)
@ensure
async def test_what_is_no_request_gets_no_certificate(make_door: Make, asked: Any) -> None:
    door = make_door(1)
    code, told = await door.ask("POST", "/v1/certificates", "v", json=asked)
    assert (code, told["error"]["code"]) == (400, "invalid")


@ensure
async def test_a_key_of_another_kind_or_a_foreign_signature_is_refused(
    make_door: Make, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import hashes, serialization

    door = make_door(1)
    subject = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    weak = subject.sign(rsa.generate_private_key(65537, 1024), hashes.SHA256())
    pem = weak.public_bytes(serialization.Encoding.PEM).decode()
    code, _ = await door.ask("POST", "/v1/certificates", "v", json={"name": "v7", "request": pem})
    assert code == 400
    good = subject.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    der = bytearray(good.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    asked = {"name": "v7", "request": broken}
    assert (await door.ask("POST", "/v1/certificates", "v", json=asked))[0] == 400


class Enrolling:
    """Asks a cluster's manager for certificates, from any address."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.directory = cluster, directory

    @property
    def trust(self) -> Trust:
        return self.cluster.manager.trust

    def __call__(
        self,
        name: str,
        address: str = "10.0.0.1",
        *,
        key: str = "",
        only: str = "",
        joined: bool = False,
    ) -> Identity:
        request = VolunteerIdentity(self.directory / (key or name), name).request()
        joiner = Joiner(only, joined, "" if joined else "token", address)
        made, _ = self.cluster.result_of(self.trust.enrol(name, request, joiner))
        certificate = x509.load_pem_x509_certificate(made.encode())
        return Identity(frozenset((name,)), f"{certificate.serial_number:x}")


@pytest.fixture
def enrol(make_cluster: Callable[..., Cluster], tmp_path: Path) -> Enrolling:
    return Enrolling(make_cluster(1), tmp_path / "volunteers")


def test_nobody_joins_by_a_name_that_its_certificate_has_not(enrol: Enrolling) -> None:
    mine = enrol("v7")
    enrol.trust.admit(mine, "v7")
    with pytest.raises(Forbidden, match="that of v7"):
        enrol.trust.admit(mine, "v8")


def test_a_name_that_is_taken_is_not_given_to_another_host(enrol: Enrolling) -> None:
    first = enrol("v7")
    with pytest.raises(Forbidden, match=r"10\.0\.0\.1"):
        enrol("v7", "10.0.0.2", key="another")
    enrol.trust.admit(first, "v7")


def test_a_host_that_lost_its_state_joins_again_and_its_old_certificate_is_void(
    enrol: Enrolling,
) -> None:
    first = enrol("v7")
    second = enrol("v7", key="after a new disk")
    enrol.trust.admit(second, "v7")
    with pytest.raises(Unauthorized, match="replaced"):
        enrol.trust.admit(first, "v7")


def test_an_answer_that_was_lost_is_asked_for_again_from_anywhere(enrol: Enrolling) -> None:
    enrol("v7")
    enrol.trust.admit(enrol("v7", "10.0.0.9"), "v7")


def test_a_renewal_keeps_the_old_certificate_until_the_next_but_one(enrol: Enrolling) -> None:
    first = enrol("v7")
    second = enrol("v7", only="v7", joined=True)
    enrol.trust.admit(first, "v7")
    enrol.trust.admit(second, "v7")
    enrol("v7", only="v7", joined=True)
    with pytest.raises(Unauthorized):
        enrol.trust.admit(first, "v7")
    with pytest.raises(Forbidden, match="may join as v7 only"):
        enrol("v8", only="v7", joined=True)


def test_a_name_is_free_again_once_its_certificate_has_expired(enrol: Enrolling) -> None:
    enrol("v7")
    enrol.cluster.clock.advance(91 * 24 * 3600)
    enrol("v7", "10.0.0.2", key="another")


def test_a_revoked_volunteer_needs_a_token_of_its_own(enrol: Enrolling) -> None:
    mine = enrol("v7")
    enrol.cluster.result_of(enrol.trust.revoke_volunteer("v7", "ops"))
    with pytest.raises(Unauthorized, match="revoked by ops"):
        enrol.trust.admit(mine, "v7")
    with pytest.raises(Forbidden, match="--host"):
        enrol("v7")
    with pytest.raises(Conflict):
        enrol.cluster.result_of(enrol.trust.revoke_volunteer("v7", "ops"))
    with pytest.raises(NotFound):
        enrol.cluster.result_of(enrol.trust.revoke_volunteer("v9", "ops"))
    enrol.trust.admit(enrol("v7", only="v7"), "v7")
    with pytest.raises(Unauthorized, match="replaced"):
        enrol.trust.admit(mine, "v7")


def test_revocations_outlive_the_manager(enrol: Enrolling) -> None:
    mine = enrol("v7")
    enrol.cluster.result_of(enrol.trust.revoke_volunteer("v7", "ops"))
    enrol.cluster.restart_manager()
    with pytest.raises(Unauthorized, match="revoked by ops"):
        enrol.trust.admit(mine, "v7")


def test_a_flood_of_hellos_or_of_requests_is_limited(enrol: Enrolling) -> None:
    mine = enrol("v7")
    for _ in range(60):
        enrol.trust.admit(mine, "v7")
    with pytest.raises(Unavailable, match="joins too often"):
        enrol.trust.admit(mine, "v7")
    for _ in range(59):
        enrol("v7")
    for _ in range(5):
        with pytest.raises(Unavailable, match="Too many certificates"):
            enrol("v7")
    # Nor do those beyond push out of the audit log what others have done.
    recorded = enrol.cluster.result_of(enrol.cluster.audit.tail(100, Wanted(did="join")))
    assert [entry.outcome for entry in recorded] == ["done"] * 60


def test_so_many_names_are_given_and_no_more(
    enrol: Enrolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syndicate.manager.trust.MOST_NAMES", 2)
    enrol("v7")
    enrol("v8")
    with pytest.raises(Unavailable, match="2 volunteers have joined"):
        enrol("v9")
    enrol("v8")


def test_no_secret_of_a_token_is_in_the_store(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(1)
    secret, token = cluster.result_of(cluster.manager.trust.new_token("user", "ann", None))
    records = cluster.result_of(cluster.store.load()).records
    assert ("token", token.id) in records
    assert secret not in repr(records)
    assert secret.removeprefix("syn_") not in repr(records)


@ensure
async def test_revoking_breaks_the_connection(make_door: Make, tmp_path: Path) -> None:
    door = make_door(2)
    secret, token = door.cluster.manager.tokens.make("operator", "ops", None)
    door.cluster.manager.tokens.add([token])
    await door.ask("POST", "/v1/certificates", "v", json=a_request(tmp_path, "v1"))
    door.cluster.hosts["v1"].dials = False
    assert door.cluster.states()["v1"] == "free"
    assert (await door.ask("POST", "/v1/certificates/v1/revoke", "boss", json={}))[0] == 403
    code, told = await door.ask("POST", "/v1/certificates/v1/revoke", secret, json={})
    assert (code, told["certificate"]["state"]) == (200, "revoked")
    assert door.cluster.states()["v1"] == "gone"
    code, told = await door.ask("GET", "/v1/certificates", "boss")
    assert [each["volunteer"] for each in told["certificates"]] == ["v1"]


@ensure
async def test_a_volunteer_that_has_not_come_back_since_the_start_can_be_drained(
    make_door: Make, tmp_path: Path
) -> None:
    door = make_door(1)
    secret, token = door.cluster.manager.tokens.make("operator", "ops", None)
    door.cluster.manager.tokens.add([token])
    asked = a_request(tmp_path, "v7")
    assert (await door.ask("POST", "/v1/certificates", "v", json=asked))[0] == 201
    code, told = await door.ask("POST", "/v1/volunteers/v7/drain", secret, json={"reason": "disk"})
    assert (code, told["volunteer"]["state"]) == (200, "gone")
    assert told["volunteer"]["reason"].endswith(". Drained by ops: disk")
    assert door.cluster.manager.hygiene.barred("v7")
    code, told = await door.ask("POST", "/v1/volunteers/v7/resume", secret)
    assert (code, "Drained" in told["volunteer"]["reason"]) == (200, False)
    assert (await door.ask("POST", "/v1/volunteers/v9/drain", secret))[0] == 404


@ensure
async def test_a_token_for_no_time_is_refused_in_words(make_door: Make) -> None:
    door = make_door(1)
    asked = {"role": "user", "user": "eve", "expires_in": 0}
    code, told = await door.ask("POST", "/v1/tokens", "boss", json=asked)
    assert code == 400
    assert told["error"]["message"] == "A token is good for more than 0 seconds, not for 0."


def test_those_that_do_not_come_back_after_a_restart_are_shown_and_in_no_plan(
    enrol: Enrolling,
) -> None:
    cluster = enrol.cluster
    for name in ("v7", "v8", "v9"):
        enrol(name)
    hygiene = cluster.manager.hygiene
    cluster.result_of(hygiene.drain("ops", "operator", "v8", "new disk"))
    cluster.result_of(enrol.trust.revoke_volunteer("v9", "ops"))
    cluster.restart_manager()
    first, second, third = cluster.manager.roll.all()
    assert (first.name, first.state, first.facts.cores) == ("v1", VolunteerState.FREE, 2)
    assert (second.name, second.state, second.job) == ("v7", VolunteerState.GONE, None)
    absent = "Has not joined since the manager was started; it got its certificate at 10.0.0.1."
    assert second.reason == absent
    assert (third.name, third.state) == ("v8", VolunteerState.GONE)
    assert third.reason == f"{absent} Drained by ops: new disk"
    planner = cluster.manager.planner
    spec = cluster.job(cluster.submit(2)).spec
    assert planner.matching(spec) == ["v1"]
    assert "has 1" in planner.waits(spec)
    cluster.add("v7")
    cluster.settle()
    assert [each.state.value for each in cluster.manager.roll.all()] == ["free", "free", "gone"]
