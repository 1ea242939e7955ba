"""One run of the benchmark: where it works, what it shares, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench import cluster
from bench.cluster import Cluster
from bench.figures import Peer
from syndicate.lab import Lab

PLACE = Path("/var/tmp")
PREFIX = "syndicate-bench-"


class Overdue(Exception):
    """A family took longer than it may."""


@attrs.define(eq=False)
class Session:
    """What the families work with."""

    runs: int
    #: For files; on a disk, since that is what the daemons' files are on elsewhere.
    directory: Path
    #: Median values of the calibration by name.
    calibration: dict[str, float] = attrs.field(factory=dict)
    _exits: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)
    _lab: Lab | None = None
    _numbers: int = 0

    @property
    def lab(self) -> Lab:
        """The lab that families share; brought up when the first asks for it."""
        if self._lab is None:
            lab = cluster.fresh_lab(self.directory, f"bench{self.number()}")
            self._exits.callback(lab.down)
            lab.up(cluster.VOLUNTEERS)
            self._lab = lab
        return self._lab

    @property
    def cluster(self) -> Cluster:
        """The way to the shared lab's manager."""
        return cluster.of_lab(self.lab)

    def drop_lab(self) -> None:
        """Take the shared lab down: a family has failed, and nobody knows in what state it is."""
        self._lab = None
        self._exits.close()

    def number(self) -> int:
        """Another one each time, for names of files."""
        self._numbers += 1
        return self._numbers

    def peer(self, name: str, of: float = 1.0) -> Peer | None:
        """A figure of the calibration to hold another one against, ``of`` times in its unit."""
        return Peer(name, self.calibration[name] * of) if name in self.calibration else None


@contextlib.contextmanager
def session(runs: int) -> Iterator[Session]:
    """A run; at its end, however it comes, everything is taken away."""
    _clear_away_dead()
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=PLACE) as name, _held(Path(name)):
        directory = Path(name)
        directory.chmod(0o711)  # jobs run as other users
        found = Session(runs, directory)
        signal.signal(signal.SIGTERM, _end)
        try:
            yield found
        finally:
            # A second Ctrl-C would leave what the first one is taking away.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            found.drop_lab()


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[bool]:
    """Show others that the directory is in use; says whether nobody else has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _clear_away_dead() -> None:
    """Take away what runs that were killed have left."""
    for directory in PLACE.glob(f"{PREFIX}*"):
        with _held(directory) as ours:
            if ours:
                for description in [
                    *directory.glob("*/lab.json"),
                    *directory.glob("labs/*/lab.json"),
                ]:
                    Lab(description.parent.name, description.parent).down()
                shutil.rmtree(directory)


def _end(number: int, frame: types.FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def bound(seconds: float) -> Iterator[None]:
    """Break off what takes longer.

    :raises Overdue: in the midst of it.
    """

    def ring(number: int, frame: types.FrameType | None) -> None:
        raise Overdue(f"it took longer than {seconds:g} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
