"""Makes the volunteer's service: ``twistd syndicate-volunteer --config FILE``."""

from __future__ import annotations

import functools
import os
import platform
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import twisted
from twisted.application.service import IService

from syndicate import __version__
from syndicate.audit.files import FileAudit
from syndicate.blobs.files import FileBlobStore
from syndicate.blobs.transfer import HttpsTransfer
from syndicate.client.interface import IHandle
from syndicate.config.volunteer import Registration, VolunteerConfig, load_volunteer
from syndicate.credentials.enrolment import EnrolledEndpoint, Enrolment
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.renewal import Renewal
from syndicate.domain.errors import Invalid, Unavailable
from syndicate.domain.job import Limits
from syndicate.domain.volunteer import Facts
from syndicate.network.interface import NetworkFacts
from syndicate.network.nft import NftFaults
from syndicate.plugins.console import make_console
from syndicate.plugins.daemon import Daemon, make
from syndicate.plugins.own_ports import OwnPorts
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.interface import SandboxFacts
from syndicate.volunteer.after_job import Command
from syndicate.volunteer.service import Session, Volunteer
from syndicate.wire.interface import IWorker
from syndicate.wire.pb.client import ManagerDialler

if TYPE_CHECKING:
    from syndicate.client.door import Door
    from syndicate.console.server import Console, MakeWords

#: Bytes of the largest source that a volunteer's cache takes.
LARGEST_SOURCE = 64 << 30


def make_service(options: Any) -> IService:
    """The volunteer's service, as its configuration wants it."""
    return make(options, load_volunteer, make_volunteer)


def make_volunteer(reactor: Any, config: VolunteerConfig) -> Daemon:
    """A volunteer of real parts.

    :raises SyndicateError: its state directory cannot be made, or its authority be read.
    """
    who = config.volunteer
    try:
        who.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The state directory {who.state} cannot be made: {error.strerror}. Choose another one "
            "([volunteer] state), or make it for the user that the volunteer runs as."
        ) from error
    session = Session()
    enrolment = Enrolment(
        reactor,
        who.manager,
        who.api_port,
        who.authority,
        VolunteerIdentity(who.state / "identity", who.name),
        who.join_token_file,
    )
    volunteer = _volunteer(reactor, config, session, enrolment)

    def words(console: Callable[[], Console]) -> MakeWords:
        from syndicate.console.of_volunteer import volunteer_words

        return volunteer_words(reactor, volunteer, console)

    async def serve() -> None:
        """Nothing listens but the console, if one is asked for: the volunteer dials."""
        daemon.before_close(Renewal(reactor, enrolment, lambda: session.token))
        audit = FileAudit(reactor, who.state / "audit")
        name = f"volunteer {who.name}"
        found = make_console(reactor, name, config.console, who.state, audit, words)
        if found is not None:
            daemon.before_close(found[1])

    daemon = Daemon(reactor, f"Volunteer {who.name}", volunteer, serve)
    return daemon


def _volunteer(
    reactor: Any, config: VolunteerConfig, session: Session, enrolment: Enrolment
) -> Volunteer:
    who, sandbox = config.volunteer, config.sandbox
    network = NftFaults(reactor, who.state, who.name, reactor, config.network.match)
    endpoint = EnrolledEndpoint(reactor, who.manager, who.wire_port, enrolment)
    return Volunteer(
        reactor,
        who.name,
        functools.partial(_facts, who),
        ChrootSandbox(
            reactor,
            who.state,
            who.name,
            sandbox.uids,
            sandbox.mode,
            sandbox.resolv_conf,
            lambda: () if network.group is None else (network.group,),
            sandbox.skeletons,
            sandbox.seccomp,
        ),
        FileBlobStore(who.state / "cache", LARGEST_SOURCE, reactor, durable=False),
        HttpsTransfer(
            reactor, who.manager, who.api_port, who.authority, lambda: session.token, reactor
        ),
        session,
        who.state / "spool",
        functools.partial(_dialler, reactor, endpoint),
        config.cache.size,
        network,
        functools.partial(_make_door, reactor),
        after_job=_after_job(reactor, who),
        doors=_own_ports(reactor, config),
    )


def _own_ports(reactor: Any, config: VolunteerConfig) -> OwnPorts:
    who, network = config.volunteer, config.network
    return OwnPorts(
        reactor,
        who.manager,
        (who.wire_port, who.api_port, *network.ports),
        # Where this volunteer has a console the others have too, at the same port.
        everywhere=(config.console.port,) if config.console.port else (),
        closed=network.closed,
        open=network.open,
    )


def _after_job(reactor: Any, who: Registration) -> Command | None:
    if who.after_job == "clean":
        return None
    if isinstance(who.after_job, str):
        return Command(reactor, who.reboot_command, who.after_job_deadline, reboots=True)
    return Command(reactor, who.after_job, who.after_job_deadline)


def _dialler(reactor: Any, endpoint: EnrolledEndpoint, worker: IWorker) -> ManagerDialler:
    endpoint.enrolment.pinned()  # a start without it would dial for ever, to no purpose
    return ManagerDialler(reactor, endpoint, worker, endpoint.refused)


def _make_door(reactor: Any, directory: Path, uid: int, handle: IHandle, limits: Limits) -> Door:
    """The door of a client, and what its programs find beside it."""
    # What it stands on takes a while to be imported, and most jobs have no client.
    from syndicate.client.door import Door
    from syndicate.client.kit import lay_out

    lay_out(directory)
    return Door(reactor, directory, uid, handle, limits)


def _facts(who: Registration, sandbox: SandboxFacts, paths: NetworkFacts) -> Facts:
    return Facts(
        address=who.address or _address_towards(who.manager),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        arch=platform.machine(),
        kernel=platform.release(),
        sandbox=sandbox.mode,
        enforced=sandbox.enforced,
        faults=(*paths.supported, *(("pause",) if sandbox.freezer else ())),
        unsupported=(
            *paths.unsupported,
            *(() if sandbox.freezer else (("pause", "there is no freezer on this host"),)),
        ),
        versions=(
            ("syndicate", __version__),
            ("python", platform.python_version()),
            ("twisted", twisted.__version__),
        ),
        remarks=sandbox.remarks,
    )


def _address_towards(host: str) -> str:
    """The address of ours that packets to a host leave from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError as error:
            raise Invalid(
                f"No route to the manager {host!r}: {error.strerror}. Check [volunteer] manager, "
                "or set [volunteer] address."
            ) from error
        return str(probe.getsockname()[0])
