"""How a volunteer gets its certificate over a real HTTPS door, renews it, and is kept out."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.site import make_site
from syndicate.credentials.authority import Authority, ensure_authority
from syndicate.credentials.enrolment import EnrolledEndpoint, Enrolment
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.issuing import VolunteerIssuer
from syndicate.credentials.renewal import LOOK, Renewal
from syndicate.credentials.tls import server_options
from syndicate.domain.errors import Forbidden, Invalid, Unauthorized, Unavailable
from syndicate.plugins.doors import DoorOverTls
from tests.support.cluster import Cluster
from tests.support.sandboxes import the_reactor

ensure = pytest_twisted.ensureDeferred


@attrs.define(eq=False)
class Place:
    """A manager's HTTPS door, and a volunteer that looks for it."""

    cluster: Cluster
    directory: Path
    authority: Authority
    port: int
    secret: str

    def token_file(self, secret: str) -> Path:
        self.directory.mkdir(exist_ok=True)
        file = self.directory / f"join-{len(secret)}"
        file.write_text(secret)
        return file

    def enrolment(self, name: str = "v7", **changes: Any) -> Enrolment:
        values: dict[str, Any] = {
            "authority": self.authority.ca_file,
            "identity": VolunteerIdentity(self.directory / name, name),
            "join_token_file": self.token_file(self.secret),
            **changes,
        }
        return Enrolment(the_reactor(), "127.0.0.1", self.port, **values)


@pytest.fixture
def place(make_cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[Place]:
    cluster = make_cluster(1)
    reactor, manager = the_reactor(), cluster.manager
    # The cluster's clock shows the time of the real one, by which certificates are judged.
    cluster.clock.advance(reactor.seconds() - cluster.clock.seconds())
    authority = ensure_authority(cluster.directory / "authority", ())
    access = Access(manager)
    site = make_site(reactor, Api(reactor, manager, access), access, cluster.blobs)
    door = DoorOverTls(server_options(authority, volunteers_only=False), site)
    port = reactor.listenTCP(0, door, interface="127.0.0.1")
    ticking = LoopingCall(cluster.clock.advance, 0.0)
    ticking.start(0.001, now=False)
    secret, token = manager.tokens.make("volunteer", "volunteer", None)
    manager.tokens.add([token])
    yield Place(cluster, tmp_path / "volunteers", authority, port.getHost().port, secret)
    ticking.stop()
    pytest_twisted.blockon(port.stopListening())
    pytest_twisted.blockon(deferLater(reactor, 0.05, lambda: None))


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(volunteers: int) -> Cluster:
        cluster = Cluster(tmp_path / "cluster")
        made.append(cluster)
        cluster.add(*(f"v{n + 1}" for n in range(volunteers)))
        return cluster

    yield make
    for cluster in made:
        cluster.close()


def serial(identity: VolunteerIdentity) -> int:
    return x509.load_pem_x509_certificate(identity.certificate_file.read_bytes()).serial_number


@ensure
async def test_the_first_certificate_is_asked_for_and_kept(place: Place) -> None:
    enrolment = place.enrolment()
    made = await enrolment.certificate()
    assert serial(enrolment.identity) == made.serial_number
    # Another process of the same volunteer asks nobody.
    again = place.enrolment(join_token_file=place.directory / "it needs none")
    assert (await again.certificate()).serial_number == made.serial_number
    assert [each.name for each in place.cluster.manager.trust.enrolled()] == ["v7"]


@ensure
async def test_what_the_manager_says_no_to_is_told(place: Place) -> None:
    with pytest.raises(Unauthorized, match="not known here"):
        await place.enrolment(join_token_file=place.token_file("wrong")).certificate()
    await place.enrolment("v7").certificate()
    place.cluster.result_of(place.cluster.manager.trust.revoke_volunteer("v7", "ops"))
    other = VolunteerIdentity(place.directory / "another", "v7")
    with pytest.raises(Forbidden, match="revoked by ops"):
        await place.enrolment(identity=other).certificate()
    assert not other.certificate_file.exists()


@ensure
async def test_a_manager_of_another_authority_gets_no_join_token(
    place: Place, tmp_path: Path
) -> None:
    other = ensure_authority(tmp_path / "other", ()).ca_file
    with pytest.raises(Unavailable, match="not of the authority"):
        await place.enrolment(authority=other).certificate()
    assert place.cluster.manager.trust.enrolled() == ()


@ensure
async def test_an_authority_that_is_not_there_is_told_with_what_to_copy(place: Place) -> None:
    with pytest.raises(Invalid, match=r"Copy authority/ca\.pem"):
        await place.enrolment(authority=place.directory / "none").certificate()
    (place.directory / "empty").parent.mkdir(exist_ok=True)
    (place.directory / "empty").touch()
    with pytest.raises(Invalid, match=r"holds no certificate\. Copy authority/ca\.pem"):
        await place.enrolment(authority=place.directory / "empty").certificate()


@ensure
async def test_nobody_at_the_door_is_told(place: Place) -> None:
    enrolment = place.enrolment()
    enrolment._api_port = 1
    with pytest.raises(Unavailable, match="refused"):
        await enrolment.certificate()


@ensure
async def test_an_old_certificate_is_renewed_with_the_session_and_a_fresh_one_is_not(
    place: Place,
) -> None:
    place.cluster.settle()
    session = place.cluster.manager.fleet.members["v1"].session
    enrolment = place.enrolment("v1")
    await enrolment.certificate()
    clock = Clock()
    clock.advance(the_reactor().seconds())
    renewal = Renewal(_With(clock), enrolment, lambda: session)
    renewal.startService()
    before = serial(enrolment.identity)
    clock.advance(LOOK)
    assert renewal._asking is None
    clock.advance(61 * 24 * 3600)
    await _asked(renewal)
    assert serial(enrolment.identity) != before
    # Both are good, as the connection of now was made with the first.
    (known,) = place.cluster.manager.trust.enrolled()
    assert known.serials[1] == f"{before:x}"
    renewal.stopService()
    assert not clock.getDelayedCalls()


async def _asked(renewal: Renewal) -> None:
    assert renewal._asking is not None
    await renewal._asking


class _With:
    """A clock that may be asked for the time, and for calls later."""

    def __init__(self, clock: Clock) -> None:
        self.seconds, self.callLater = clock.seconds, clock.callLater


@ensure
async def test_a_renewal_that_fails_is_said_and_tried_again(place: Place) -> None:
    enrolment = place.enrolment("v1")
    await enrolment.certificate()
    clock = Clock()
    clock.advance(the_reactor().seconds() + 61 * 24 * 3600)
    renewal = Renewal(_With(clock), enrolment, lambda: "no session any more")
    renewal.startService()
    before = serial(enrolment.identity)
    with capturedLogs() as said:
        clock.advance(LOOK)
        await _asked(renewal)
    assert any("tried again" in str(event.get("log_format")) for event in said)
    assert serial(enrolment.identity) == before
    assert clock.getDelayedCalls()
    renewal.stopService()


@ensure
async def test_a_certificate_that_is_not_taken_is_forgotten_and_others_are_kept(
    place: Place,
) -> None:
    enrolment = place.enrolment()
    await enrolment.certificate()
    endpoint = EnrolledEndpoint(the_reactor(), "127.0.0.1", 1, enrolment)
    endpoint.refused(Unavailable("It joins too often."))
    endpoint.refused(ConnectionResetError())
    assert enrolment.identity.certificate_file.exists()
    endpoint.refused(Unauthorized("This certificate was replaced by a newer one."))
    assert not enrolment.identity.certificate_file.exists()
    assert enrolment.identity.key_file.exists()


@ensure
async def test_a_volunteer_without_a_certificate_says_so_once(place: Place) -> None:
    endpoint = EnrolledEndpoint(
        the_reactor(), "127.0.0.1", 1, place.enrolment(join_token_file=place.token_file("wrong"))
    )
    with capturedLogs() as said:
        for _ in range(3):
            with pytest.raises(Unauthorized):
                await endpoint.connect(Factory.forProtocol(Protocol))
    told = [event for event in said if "no certificate" in str(event.get("log_format"))]
    assert len(told) == 1
    assert "'wrong'" not in str(told[0]["why"])


def test_an_identity_shows_only_what_fits_and_is_in_time(tmp_path: Path) -> None:
    ensure_authority(tmp_path / "authority", ())
    issuer = VolunteerIssuer(tmp_path / "authority", datetime.timedelta(days=9))
    now = datetime.datetime.now(datetime.UTC).timestamp()
    identity = VolunteerIdentity(tmp_path / "v7", "v7")
    assert identity.certificate(now) is None
    certificate, known = issuer.issue("v7", identity.request(), now)
    assert known.key == issuer.key_of(identity.request())
    identity.keep(certificate)
    found = identity.certificate(now)
    assert found is not None
    assert not identity.is_old(found, now)
    assert identity.is_old(found, now + 7 * 24 * 3600)
    assert identity.certificate(now + 10 * 24 * 3600) is None
    assert VolunteerIdentity(tmp_path / "v7", "v8").certificate(now) is None
    identity.key_file.unlink()  # a new key is made: the certificate is not its own
    assert identity.certificate(now) is None


# How many connections one address may have.


def test_one_address_cannot_take_all_connections_and_they_are_given_back(tmp_path: Path) -> None:
    authority = ensure_authority(tmp_path / "authority", ())
    blocked: set[str] = set()
    door = DoorOverTls(
        server_options(authority, volunteers_only=True),
        Factory.forProtocol(Protocol),
        blocked.__contains__,
        most_of_one=3,
    )

    def knock(host: str) -> Any:
        protocol = door.buildProtocol(IPv4Address("TCP", host, 1))
        if protocol is not None:
            protocol.makeConnection(StringTransport())
        return protocol

    inside = [knock("10.0.0.1") for _ in range(3)]
    assert all(inside)
    assert knock("10.0.0.1") is None
    assert knock("10.0.0.2") is not None
    inside[0].connectionLost(Failure(ConnectionDone()))
    assert knock("10.0.0.1") is not None
    blocked.add("10.0.0.3")
    assert knock("10.0.0.3") is None
