"""Many volunteers in one process, whose programs only seem to run; `bench.swarm` starts it.

Everything but the sandbox is what a real volunteer has; the cache, and the way that fills it,
they share, as one download is not what is measured here.

Arguments: how many, the manager's two ports, the directory with its ``state``, and one for the
files of all of them. The seconds until all of them are registered are printed.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from zope.interface import implementer

from syndicate.blobs.files import FileBlobStore
from syndicate.blobs.interface import IBlobStore, IBlobTransfer
from syndicate.blobs.transfer import HttpsTransfer
from syndicate.credentials.issuing import VolunteerIssuer
from syndicate.credentials.tls import client_options
from syndicate.domain.volunteer import Facts
from syndicate.network.interface import NetworkFacts
from syndicate.network.memory import MemoryFaults
from syndicate.plugins.daemon import COLLECT
from syndicate.sandbox.interface import SandboxFacts
from syndicate.sandbox.memory import MemorySandbox
from syndicate.volunteer.service import Session, Volunteer
from syndicate.wire.interface import IManager, IWorker, Welcome
from syndicate.wire.pb.client import ManagerDialler

reactor: Any = _reactor

LARGEST = 1 << 30


@implementer(IBlobTransfer)
@attrs.define(eq=False)
class SharedTransfer:
    """One way to the manager for all; the volunteer that closes it is not the only one."""

    _inner: HttpsTransfer

    def download(self, sha256: str, size: int, store: IBlobStore) -> Deferred[Path]:
        return self._inner.download(sha256, size, store)

    def upload(self, path: Path, sha256: str) -> Deferred[None]:
        return self._inner.upload(path, sha256)

    def append_log(
        self, job: int, attempt: int, machine: str, offset: int, data: bytes
    ) -> Deferred[int]:
        return self._inner.append_log(job, attempt, machine, offset, data)

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(IWorker)
class Counted:
    """A worker whose first welcome is counted; all else is the volunteer's."""

    def __init__(self, worker: IWorker, welcomed: Callable[[], None]) -> None:
        self._worker, self._count = worker, welcomed
        self._known = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def welcomed(self, welcome: Welcome, manager: IManager) -> None:
        self._worker.welcomed(welcome, manager)
        if not self._known:
            self._known = True
            self._count()


@attrs.define(eq=False)
class Swarm:
    """All of them."""

    count: int
    wire_port: int
    api_port: int
    place: Path
    files: Path
    session: Session = attrs.field(factory=Session)
    _began: float = 0.0
    _here: int = 0

    def start(self) -> None:
        """Let all dial."""
        authority = self.place / "state/authority/ca.pem"
        # One key for all, but a certificate each, as the manager keeps for every connection what it
        # was shown: one with a thousand names would be what its memory is full of.
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = VolunteerIssuer(authority.parent)
        names = [f"s{number}" for number in range(self.count)]
        contexts = [
            client_options(
                authority.read_bytes(),
                (key, issuer.sign((name,), key.public_key(), time.time())),
            )
            for name in names
        ]
        # Sources are fetched once for all, so not as one volunteer, which may fetch its own only.
        staff = (self.place / "state/tokens/staff").read_text().strip()
        transfer = SharedTransfer(
            HttpsTransfer(reactor, "127.0.0.1", self.api_port, authority, lambda: staff, reactor)
        )
        cache = FileBlobStore(self.files / "cache", LARGEST, reactor)
        self._began = time.monotonic()
        for number, (name, context) in enumerate(zip(names, contexts, strict=True)):
            make = functools.partial(self._dialler, context)
            facts = functools.partial(_facts, number)
            sandbox, spool = MemorySandbox(reactor), self.files / "spool" / name
            volunteer = Volunteer(
                reactor,
                name,
                facts,
                sandbox,
                cache,
                transfer,
                self.session,
                spool,
                make,
                LARGEST,
                MemoryFaults(reactor),
                _no_door,
            )
            Deferred.fromCoroutine(volunteer.open()).addErrback(self._failed)

    def _dialler(self, context: Any, worker: IWorker) -> ManagerDialler:
        endpoint = wrapClientTLS(context, HostnameEndpoint(reactor, "127.0.0.1", self.wire_port))
        return ManagerDialler(reactor, endpoint, Counted(worker, self._welcomed))

    def _welcomed(self) -> None:
        self._here += 1
        if self._here == self.count:
            print(time.monotonic() - self._began, flush=True)

    def _failed(self, failure: Any) -> None:
        sys.stderr.write(failure.getTraceback())
        reactor.stop()


def _no_door(*_: object) -> Any:
    raise NotImplementedError("no job of this benchmark has a client")


def _facts(number: int, sandbox: SandboxFacts, _: NetworkFacts) -> Facts:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return Facts(address, 2, 4 << 30, "x86_64", "6.1", sandbox.mode, sandbox.enforced)


def main() -> None:
    """Run until a signal comes."""
    observer = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)]
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    gc.set_threshold(*COLLECT)  # as a volunteer's daemon does
    count, wire_port, api_port = map(int, sys.argv[1:4])
    swarm = Swarm(count, wire_port, api_port, Path(sys.argv[4]), Path(sys.argv[5]))
    reactor.callWhenRunning(swarm.start)
    reactor.run()


if __name__ == "__main__":
    main()
