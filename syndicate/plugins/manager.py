"""Makes the manager's service: ``twistd syndicate-manager --config FILE``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import Logger

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.site import make_site
from syndicate.audit.files import FileAudit
from syndicate.blobs.files import FileBlobStore
from syndicate.blobs.logs import FileLogStore
from syndicate.cli import packing
from syndicate.config.manager import Clients, Listening, ManagerConfig, load_manager
from syndicate.credentials.authority import Authority
from syndicate.credentials.issuing import VolunteerIssuer
from syndicate.credentials.registry import TokenRegistry
from syndicate.credentials.tls import identity_of, server_options
from syndicate.domain.job import Limits, Role
from syndicate.manager.history import Keep
from syndicate.manager.liveness import Patience
from syndicate.manager.service import Manager
from syndicate.manager.site import Site
from syndicate.manager.uploads import Room
from syndicate.plain import field_names
from syndicate.plugins.console import make_console
from syndicate.plugins.daemon import Daemon, make
from syndicate.plugins.doors import DoorOverTls, bad_certificate
from syndicate.plugins.founding import found
from syndicate.sandbox.inspector import LauncherInspector
from syndicate.sandbox.interface import SourceRules
from syndicate.store.sqlite import SqliteLeadership, SqliteStore
from syndicate.wire.pb.server import DoorFactory

if TYPE_CHECKING:
    from syndicate.console.server import Console, MakeWords

log = Logger()

#: Bytes that frames and marks add to a log at the most, beside the output itself.
LOG_MARGIN = 1.5


def make_service(options: Any) -> IService:
    """The manager's service, as its configuration wants it."""
    return make(options, load_manager, make_manager)


def make_manager(reactor: Any, config: ManagerConfig) -> Daemon:
    """A manager of real parts; authority, certificates and first tokens are made when missing."""
    state, founded = config.manager.state, found(config)
    reserve = config.storage.reserve
    blobs = FileBlobStore(state / "blobs", config.maxima.source, reactor, reserve=reserve)
    manager = _manager(reactor, config, founded.tokens, blobs)

    async def prepare() -> None:
        await _take_client(manager, blobs, config.clients)

    async def serve() -> None:
        _add_console(reactor, config, manager, daemon)
        _listen(reactor, config.manager, manager, founded.authority, blobs, daemon)

    daemon = Daemon(reactor, "The manager", manager, serve, prepare)
    return daemon


def _manager(
    reactor: Any,
    config: ManagerConfig,
    tokens: tuple[tuple[str, str, str], ...],
    blobs: FileBlobStore,
) -> Manager:
    state, maxima = config.manager.state, config.maxima
    store = SqliteStore(reactor, state)
    longest_log = int(maxima.output * LOG_MARGIN)
    return Manager(
        reactor,
        store,
        SqliteLeadership(store),
        blobs,
        FileLogStore(state / "logs", longest_log, reactor, config.storage.reserve),
        LauncherInspector(reactor, state / "inspect", SourceRules(unpacked=maxima.unpacked)),
        TokenRegistry(reactor),
        tokens,
        _site(config),
        audit=FileAudit(reactor, state / "audit", config.audit.file_size, config.audit.files),
        issuer=VolunteerIssuer(state / "authority"),
    )


def _add_console(reactor: Any, config: ManagerConfig, manager: Manager, daemon: Daemon) -> None:
    """Open the console, where there is to be one, and tell people of it."""

    def words(console: Callable[[], Console]) -> MakeWords:
        from syndicate.console.of_manager import manager_words

        return manager_words(reactor, manager, console)

    name = f"manager of {config.manager.cluster}"
    made = make_console(reactor, name, config.console, config.manager.state, manager.audit, words)
    if made is not None:
        console, service = made
        manager.site = attrs.evolve(manager.site, console=(config.console.port, *console.host_key))
        daemon.before_close(service)


def _listen(
    reactor: Any,
    listening: Listening,
    manager: Manager,
    authority: Authority,
    blobs: FileBlobStore,
    daemon: Daemon,
) -> None:
    """Open the doors of volunteers, and of people and their programs."""
    access, trust = Access(manager), manager.trust

    def admit(transport: Any, name: str) -> None:
        trust.admit(identity_of(transport), name)

    wire = DoorOverTls(
        server_options(authority, volunteers_only=True),
        DoorFactory(reactor, admit, manager, trust.refused),
        trust.bad_certificates.too_many,
        bad_certificate(trust.refused),
    )
    api = DoorOverTls(
        server_options(authority, volunteers_only=False),
        make_site(reactor, Api(reactor, manager, access), access, blobs),
    )
    for port, door in ((listening.wire_port, wire), (listening.api_port, api)):
        endpoint = TCP4ServerEndpoint(reactor, port, backlog=1024, interface=listening.address)
        service = StreamServerEndpointService(endpoint, door)
        service._raiseSynchronously = True
        daemon.before_close(service)
    log.info(
        "Manager is ready: volunteers at {address}:{wire}, people at {address}:{api}.",
        address=listening.address,
        wire=listening.wire_port,
        api=listening.api_port,
    )


async def _take_client(manager: Manager, blobs: FileBlobStore, clients: Clients) -> None:
    """Take the site's own benchmark client into the blobs, packed if it is a directory.

    :raises InvalidSource: it cannot be packed, or has no target ``client``.
    """
    if clients.source is None:
        return
    package = packing.package(clients.source, (Role.CLIENT.value,))
    try:
        if blobs.size(package.sha256) is None:
            writer = blobs.write(package.sha256, package.size)
            package.file.seek(writer.offset)
            while block := package.file.read(1 << 20):
                writer.write(block)
            await writer.finish()
    finally:
        package.close()
    manager.site = attrs.evolve(
        manager.site,
        client_sha256=package.sha256,
        client_size=package.size,
        clients_per_job=clients.per_job,
    )


def _site(config: ManagerConfig) -> Site:
    maxima = config.maxima
    most = Limits(**{name: getattr(maxima, name) for name in field_names(Limits)})
    usual = {
        name: min(getattr(config.defaults, name), getattr(most, name))
        for name in field_names(Limits)
    }
    return Site(
        config.manager.cluster,
        Patience(**attrs.asdict(config.liveness)),
        most,
        Limits(**usual),
        maxima.machines,
        own_clients=config.clients.own,
        queued_per_user=config.storage.queued_per_user,
        faults_per_job=config.storage.faults_per_job,
        keep=Keep(config.history.jobs, config.history.age),
        room=Room(config.storage.blobs, config.storage.uploads, config.storage.uploads_per_user),
        files_for=config.history.files,
    )
