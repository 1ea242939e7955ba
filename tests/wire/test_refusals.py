"""What both ends log when a volunteer is not let in, over real TLS: what happened, where, and what
to do about it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.site import make_site
from syndicate.credentials.authority import Authority, certificate_bytes, ensure_authority
from syndicate.credentials.enrolment import EnrolledEndpoint, Enrolment
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.issuing import VolunteerIssuer
from syndicate.credentials.tls import identity_of, server_options
from syndicate.manager.trust import Trust
from syndicate.plugins.doors import DoorOverTls, bad_certificate
from syndicate.wire.interface import PROTOCOL
from syndicate.wire.pb.client import ManagerDialler
from syndicate.wire.pb.server import DoorFactory
from tests.support.cluster import Cluster
from tests.support.peers import NotingFleet, NotingWorker
from tests.support.sandboxes import the_reactor

ensure = pytest_twisted.ensureDeferred


@implementer(ILogObserver)
@attrs.define(eq=False)
class Said:
    """What is logged meanwhile, as people read it."""

    lines: list[str] = attrs.field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))

    async def until(self, word: str) -> str:
        """The first line with a word in it; the test's deadline ends the wait for one."""
        while not (found := [line for line in self.lines if word in line]):
            await deferLater(the_reactor(), 0.02, lambda: None)
        return found[0]


@attrs.define(eq=False)
class Scene:
    """A manager's two doors, and a volunteer that dials."""

    cluster: Cluster
    directory: Path
    authority: Authority
    wire_port: int
    api_port: int
    fleet: NotingFleet
    secret: str
    said: Said
    diallers: list[ManagerDialler] = attrs.field(factory=list)

    @property
    def trust(self) -> Trust:
        return self.cluster.manager.trust

    def identity(self, name: str = "v7") -> VolunteerIdentity:
        return VolunteerIdentity(self.directory / name, name)

    def certify(self, authority: Path, name: str = "v7", **age: float) -> None:
        """Give the volunteer a certificate, of whatever authority, that is so old."""
        issuer = VolunteerIssuer(authority, datetime.timedelta(days=9))
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**age)
        identity = self.identity(name)
        made = issuer.sign((name,), identity.key().public_key(), now.timestamp())
        identity.keep(certificate_bytes(made).decode())

    def dial(self, name: str = "v7", protocol: int = PROTOCOL, **changes: Any) -> None:
        """Have the volunteer dial until the test is over."""
        reactor = the_reactor()
        token_file = self.directory / "join"
        token_file.write_text(self.secret)
        values: dict[str, Any] = {
            "authority": self.authority.ca_file,
            "identity": self.identity(name),
            "join_token_file": token_file,
            **changes,
        }
        enrolment = Enrolment(reactor, "127.0.0.1", self.api_port, **values)
        endpoint = EnrolledEndpoint(reactor, "127.0.0.1", self.wire_port, enrolment)
        worker = NotingWorker(name, protocol)
        dialler = ManagerDialler(reactor, endpoint, worker, endpoint.refused)
        self.diallers.append(dialler)
        dialler.start()

    async def until_joined(self) -> None:
        while not self.fleet.links:
            await deferLater(the_reactor(), 0.02, lambda: None)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    reactor = the_reactor()
    cluster = Cluster(tmp_path / "cluster")
    cluster.clock.advance(reactor.seconds() - cluster.clock.seconds())
    (tmp_path / "volunteers").mkdir()
    manager, trust = cluster.manager, cluster.manager.trust
    authority = ensure_authority(cluster.directory / "authority", ())
    access, fleet, said = Access(manager), NotingFleet(), Said()

    def admit(transport: Any, name: str) -> None:
        trust.admit(identity_of(transport), name)

    wire = DoorFactory(reactor, admit, fleet, trust.refused)
    site = make_site(reactor, Api(reactor, manager, access), access, cluster.blobs)
    doors = [
        DoorOverTls(
            server_options(authority, volunteers_only=True),
            wire,
            trust.bad_certificates.too_many,
            bad_certificate(trust.refused),
        ),
        DoorOverTls(server_options(authority, volunteers_only=False), site),
    ]
    ports = [reactor.listenTCP(0, door, interface="127.0.0.1") for door in doors]
    ticking = LoopingCall(cluster.clock.advance, 0.0)
    ticking.start(0.001, now=False)
    secret, token = manager.tokens.make("volunteer", "volunteer", None)
    manager.tokens.add([token])
    globalLogPublisher.addObserver(said)
    wire_port, api_port = (port.getHost().port for port in ports)
    place = tmp_path / "volunteers"
    scene = Scene(cluster, place, authority, wire_port, api_port, fleet, secret, said)
    yield scene
    globalLogPublisher.removeObserver(said)
    for dialler in scene.diallers:
        pytest_twisted.blockon(dialler.stop())
    ticking.stop()
    for port in ports:
        pytest_twisted.blockon(port.stopListening())
    pytest_twisted.blockon(deferLater(reactor, 0.05, lambda: None))
    cluster.close()


def revoke(scene: Scene, name: str) -> None:
    scene.cluster.result_of(scene.trust.revoke_volunteer(name, "ops"))


@ensure
async def test_a_join_token_that_is_not_taken_names_its_file_and_how_to_get_one(
    scene: Scene,
) -> None:
    scene.secret = "wrong"
    scene.dial()
    said = await scene.said.until("has no certificate")
    for part in (
        f"127.0.0.1:{scene.api_port}",
        "does not take the join token",
        str(scene.directory / "join"),
        "tokens/join",
        "syndicate token new --role volunteer --host v7",
    ):
        assert part in said
    # And for the manager's operator: who, and what helps.
    told = await scene.said.until("127.0.0.1 was not let in")
    assert "not known here" in told
    assert "tokens/join" in told
    assert "wrong" not in "".join(scene.said.lines)


@ensure
async def test_a_join_token_that_cannot_be_read_names_its_file(scene: Scene) -> None:
    scene.dial(join_token_file=scene.directory / "nowhere")
    said = await scene.said.until("has no certificate")
    assert str(scene.directory / "nowhere") in said
    assert "tokens/join" in said


@ensure
async def test_a_revoked_volunteer_is_told_by_whom_and_what_lets_it_in_again(scene: Scene) -> None:
    scene.dial()
    await scene.until_joined()
    await scene.diallers.pop().stop()
    revoke(scene, "v7")
    scene.dial()
    said = await scene.said.until("Could not join")
    for part in (
        f"127.0.0.1:{scene.wire_port}",
        "v7 was revoked by ops",
        "syndicate token new --role volunteer --host v7",
        str(scene.directory / "join"),
    ):
        assert part in said
    told = await scene.said.until("A volunteer at 127.0.0.1 was not let in")
    assert "syndicate token new --role volunteer --host v7" in told
    # It tries to join anew, of which the same is said.
    again = await scene.said.until("has no certificate")
    assert "v7 was revoked by ops" in again
    assert "syndicate token new --role volunteer --host v7" in again


@ensure
async def test_a_certificate_of_another_authority_is_replaced_and_that_is_said(
    scene: Scene, tmp_path: Path
) -> None:
    ensure_authority(tmp_path / "other", ())
    scene.certify(tmp_path / "other")
    scene.dial()
    said = await scene.said.until("Could not join")
    assert f"127.0.0.1:{scene.wire_port}" in said
    assert "another authority" in said
    assert "asks for a new one" in said
    assert str(scene.directory / "join") in said
    told = await scene.said.until("A volunteer at 127.0.0.1 was not let in")
    assert "not signed by this cluster's authority" in told
    assert "identity" in told
    await scene.until_joined()


class Slow(VolunteerIdentity):
    """That of a host whose clock is five days late."""

    def certificate(self, now: float) -> Any:
        return super().certificate(now - 5 * 24 * 3600)


@ensure
async def test_one_that_the_manager_takes_for_expired_tells_to_look_at_the_clocks(
    scene: Scene,
) -> None:
    scene.certify(scene.authority.ca_file.parent, days=10)
    scene.dial(identity=Slow(scene.directory / "v7", "v7"))
    said = await scene.said.until("Could not join")
    assert "expired" in said
    assert "clock" in said
    told = await scene.said.until("A volunteer at 127.0.0.1 was not let in")
    assert "expired" in told
    assert "clock" in told


@ensure
async def test_an_expired_certificate_is_replaced_without_a_word_to_the_manager(
    scene: Scene,
) -> None:
    scene.certify(scene.authority.ca_file.parent, days=10)
    scene.dial()
    await scene.until_joined()
    assert not [line for line in scene.said.lines if "not let in" in line]
    assert [line for line in scene.said.lines if "certificate" in line and "expired" in line]


@ensure
async def test_a_manager_of_another_authority_is_not_taken_for_ours_nor_is_ours_forgotten(
    scene: Scene, tmp_path: Path
) -> None:
    other = ensure_authority(tmp_path / "other", ())
    scene.certify(other.ca_file.parent)
    scene.dial(authority=other.ca_file)
    said = await scene.said.until("Could not join")
    assert f"127.0.0.1:{scene.wire_port}" in said
    assert "is not of the authority" in said
    assert str(other.ca_file) in said
    assert "authority/ca.pem" in said
    # Whoever poses as the manager must not bring a volunteer to give up what it has.
    assert scene.identity().certificate_file.exists()


@ensure
async def test_a_volunteer_without_a_certificate_hears_the_same_of_another_authority(
    scene: Scene, tmp_path: Path
) -> None:
    other = ensure_authority(tmp_path / "other", ())
    scene.dial(authority=other.ca_file)
    said = await scene.said.until("has no certificate")
    assert f"127.0.0.1:{scene.api_port}" in said
    assert "is not of the authority" in said
    assert "authority/ca.pem" in said


@pytest.mark.parametrize(
    ("protocol", "who"), [(PROTOCOL - 1, "volunteer"), (PROTOCOL + 1, "manager")]
)
@ensure
async def test_another_version_is_told_which_end_to_upgrade_and_how(
    scene: Scene, protocol: int, who: str
) -> None:
    scene.dial(protocol=protocol)
    said = await scene.said.until("Could not join")
    for part in (f"127.0.0.1:{scene.wire_port}", f"upgrade the {who}", f"protocol {PROTOCOL}"):
        assert part in said
    told = await scene.said.until("A volunteer at 127.0.0.1 was not let in")
    assert "v7" in told
    assert f"upgrade the {who}" in told


@ensure
async def test_one_that_shows_none_is_told_of_in_the_managers_log(scene: Scene) -> None:
    """A volunteer of a version that had no certificates sees an alert, whatever we do."""
    from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
    from twisted.internet.protocol import Factory, Protocol

    from syndicate.credentials.tls import client_options

    closed: Deferred[Any] = Deferred()

    class Old(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            closed.callback(str(reason.value))

    context = client_options(scene.authority.ca_file.read_bytes())
    point = HostnameEndpoint(the_reactor(), "127.0.0.1", scene.wire_port)
    await wrapClientTLS(context, point).connect(Factory.forProtocol(Old))
    assert "certificate required" in await closed
    told = await scene.said.until("A volunteer at 127.0.0.1 was not let in")
    assert "shows no certificate" in told
    assert "older version" in told


@ensure
async def test_a_door_that_is_shut_without_a_word_is_told_so(scene: Scene) -> None:
    scene.certify(scene.authority.ca_file.parent)
    for _ in range(100):
        scene.trust.bad_certificates.count("127.0.0.1")
    assert scene.trust.bad_certificates.too_many("127.0.0.1")
    scene.dial()
    said = await scene.said.until("Could not join")
    assert f"127.0.0.1:{scene.wire_port}" in said
    assert "its log" in said
