"""The sandbox of real volunteers: namespaces, a chroot in an overlay, limits, and total kill.

How it is done is told in `doc/sandbox.rst`; this module puts the parts together: it finds out what
the host allows, prepares enclosures, and removes what a crashed predecessor left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from syndicate.domain.errors import Conflict, NotClean, SandboxFailed
from syndicate.domain.job import Limits
from syndicate.sandbox import leftovers
from syndicate.sandbox.cgroups import remove_group
from syndicate.sandbox.confine import seccomp as confine_seccomp
from syndicate.sandbox.confine.discard import discard
from syndicate.sandbox.confine.syscalls import can_scope
from syndicate.sandbox.disk import Disks
from syndicate.sandbox.enclosure import Enclosure
from syndicate.sandbox.hierarchies import ACCOUNT, CAPS, COUNTED, FREEZER
from syndicate.sandbox.host import Host
from syndicate.sandbox.interface import IEnclosure, ISandbox, Plot, SandboxFacts
from syndicate.sandbox.launching import IHostReactor
from syndicate.sandbox.sources import Tree

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What the overlay's mount options cannot hold.
_UNMOUNTABLE = re.compile(r"[,:\\]")
_TRIAL = "trial"
_ALWAYS = ("files", "output", "wall")


@implementer(ISandbox)
class ChrootSandbox:
    """The sandbox of one volunteer.

    :param state: a directory of this volunteer alone, on a disk file system.
    :param name: the volunteer's name.
    :param uids: the first and the last user id for jobs. No two volunteers on one host may share
        any, nor may anybody else use them.
    :param mode: ``root``, ``user`` or ``auto``: root if it works, else user namespaces.
    :param resolv_conf: a file that jobs get as their ``/etc/resolv.conf``.
    :param groups: tells of control groups that somebody else makes and removes, and that all
        processes of jobs are to be in from their first moment on, or in groups within them;
        asked once, by the probe.
    :param skeletons: a directory that other volunteers on this machine keep the lowest layer of
        roots in too, so that it is made once; None for one of its own.
    :param seccomp: whether to refuse jobs the system calls that they do not need.
    """

    def __init__(
        self,
        reactor: IHostReactor,
        state: Path,
        name: str,
        uids: tuple[int, int],
        mode: str = "auto",
        resolv_conf: Path | None = None,
        groups: Callable[[], tuple[Path, ...]] = tuple,
        skeletons: Path | None = None,
        seccomp: bool = True,
    ) -> None:
        if not _PLAIN_NAME.fullmatch(name):
            raise SandboxFailed(f"The volunteer's name {name!r} cannot be part of a file's name.")
        self._host = Host.at(reactor, state, name, uids, resolv_conf, groups, skeletons)
        self._modes: tuple[Literal["root", "user"], ...]
        if mode == "auto":
            self._modes = ("root", "user") if os.geteuid() == 0 else ("user",)
        elif mode in ("root", "user"):
            self._modes = ("root",) if mode == "root" else ("user",)
        else:
            raise SandboxFailed(f"The sandbox's mode {mode!r} is none of auto, root, user.")
        self._seccomp = seccomp
        self._facts: SandboxFacts | None = None
        self._probing = DeferredLock()
        self._enclosures: dict[str, Enclosure] = {}

    def probe(self) -> Deferred[SandboxFacts]:
        return Deferred.fromCoroutine(self._probe())

    async def _probe(self) -> SandboxFacts:
        await self._probing.acquire()
        try:
            if self._facts is None:
                self._facts = await self._find_out()
                self._host.launchers.warm_later()
            return self._facts
        finally:
            self._probing.release()

    async def _find_out(self) -> SandboxFacts:
        """Try the best way first, and the next one where it does not work."""
        if found := _UNMOUNTABLE.search(str(self._host.state)):
            raise SandboxFailed(
                f"The state directory {self._host.state} has {found[0]!r} in its name, which "
                "cannot be mounted: use another one."
            )
        self._host.make_directories()
        await self._host.in_thread(self._host.provide_skeleton)
        problems = []
        walls = self._build_walls()
        for mode in self._modes:
            self._host.mode = mode
            remarks = [*walls, *self._host.groups.find()]
            for images in (True, False) if mode == "root" else (False,):
                no_images = Disks.problem() if images else None
                if no_images:
                    remarks.append(f"The disk of a job cannot be capped: {no_images}.")
                    continue
                self._host.disks.images = images
                problem = await self._try()
                if problem is None:
                    return self._describe(mode, remarks)
                problems.append(f"as {mode}{'' if images else ' without disk images'}: {problem}")
        raise SandboxFailed(
            "Jobs cannot be confined on this host. Run the volunteer as root, or allow "
            f"unprivileged user namespaces. What was tried: {' '.join(problems)}"
        )

    def _build_walls(self) -> list[str]:
        """Find out which walls there are here.

        :returns: sentences on what is missing.
        """
        remarks = []
        lack = confine_seccomp.problem() if self._seccomp else None
        if lack:
            remarks.append(f"System calls cannot be refused to jobs: {lack}.")
        scope = can_scope()
        if not scope:
            remarks.append(
                "Jobs can reach Unix sockets of this host that have no file, as the kernel is "
                "older than Linux 6.12 or has no Landlock."
            )
        self._host.walls = {"seccomp": self._seccomp and not lack, "scope": scope}
        return remarks

    def _describe(self, mode: str, remarks: list[str]) -> SandboxFacts:
        usable = self._host.groups.controllers
        capped = {limit for controller, limit in CAPS.items() if controller in usable}
        capped.add("pids")  # by RLIMIT_NPROC, if nothing else
        if ACCOUNT in usable:
            capped.add(COUNTED)
        if self._host.disks.images:
            capped |= {"disk", "inodes"}
        elif mode == "user":
            how = (
                "let the volunteer keep all capabilities"
                if os.geteuid() == 0
                else "run the volunteer as root"
            )
            remarks.append(f"The disk of a job cannot be capped: {how}.")
        if mode == "user" and os.geteuid() == 0:
            remarks.append(
                "Jobs have no user id of their own, but root's without its rights: let the "
                "volunteer keep all capabilities, or start it as an ordinary user."
            )
        walls = {name for name, there in self._host.walls.items() if there}
        enforced = tuple(sorted({*_ALWAYS, *capped, *walls}))
        uids = self._host.uids.bounds if mode == "root" else None
        return SandboxFacts(mode, enforced, tuple(remarks), freezer=FREEZER in usable, uids=uids)

    async def _try(self) -> str | None:
        """Run ``true`` in a place of its own; returns what went wrong."""
        place = self._host.state / "sources" / _TRIAL
        discard(str(place))
        place.mkdir(mode=0o755)
        try:
            plot = Plot(_TRIAL, _TRIAL, (), place, "", Limits(disk=16 << 20))
            uid = self._host.uids.take()
            enclosure = Enclosure(plot, self._host, uid, _ignore, Tree("", uid, place, users=1))
            try:
                await enclosure.lay_out()
                run = await enclosure.start(["true"], {}, _ignore)
                exit_ = await run.wait()
            finally:
                await enclosure.destroy()
        except (SandboxFailed, OSError) as error:
            return str(error)
        finally:
            discard(str(place))
        return None if exit_.code == 0 else f"'true' ended with {exit_}."

    def sweep(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self._sweep())

    async def _sweep(self) -> int:
        if self._enclosures:
            raise Conflict("The sandbox is in use; it can be swept only before.")
        host = self._host
        host.make_directories()
        removed = 0
        for _ in range(200):
            groups = host.old_groups()
            pids = leftovers.processes_in(groups)
            if os.geteuid() == 0:
                pids |= leftovers.strays(host.uids.all, host.state)
            if not pids:
                break
            removed += leftovers.kill_all(pids)
            leftovers.thaw(pids)
            await deferLater(host.reactor, 0.02)
        else:
            raise NotClean(f"Processes of an earlier job do not die: {sorted(pids)}.")
        try:
            removed += sum(remove_group(path) for path in groups)
            if os.geteuid() == 0:
                removed += leftovers.unmount_all(host.state)
                removed += leftovers.detach_loops(host.state)
            host.sources.forget()
            for place in (host.trash, host.jobs, host.sources.directory):
                for path in list(place.iterdir()):
                    removed += place != host.sources.directory  # that is no more than a cache
                    host.clear(path)
        except OSError as error:
            raise NotClean(f"What an earlier job left cannot be removed: {error}.") from error
        await host.cleared()
        return removed

    def prepare(self, plot: Plot) -> Deferred[IEnclosure]:
        return Deferred.fromCoroutine(self._prepare(plot))

    async def _prepare(self, plot: Plot) -> IEnclosure:
        if not _PLAIN_NAME.fullmatch(plot.key):
            raise SandboxFailed(f"The key {plot.key!r} cannot be the name of a directory.")
        await self._probe()
        if plot.key in self._enclosures:
            raise Conflict(f"There is a place for {plot.key} already.")
        host = self._host
        host.disks.check_room(plot.limits.disk)
        uid = host.uids.take(host.sources.uids_with(plot.sha256))
        enclosure = Enclosure(plot, host, uid, self._forget)
        self._enclosures[plot.key] = enclosure
        unpacking: Deferred[Any] = Deferred.fromCoroutine(
            host.sources.take(plot.source, plot.sha256, host.identity(uid))
        )
        laying_out: Deferred[Any] = Deferred.fromCoroutine(enclosure.lay_out())
        results = await DeferredList([unpacking, laying_out], consumeErrors=True)
        unpacked, tree = results[0]
        if unpacked:
            enclosure.tree = tree
        for success, result in results:
            if not success:
                assert isinstance(result, Failure)
                await enclosure.destroy()
                result.raiseException()
        return enclosure

    def _forget(self, enclosure: Enclosure) -> None:
        self._enclosures.pop(enclosure.plot.key, None)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        for enclosure in list(self._enclosures.values()):
            await enclosure.destroy()
        await self._host.launchers.close()
        for path in self._host.sources.forget():
            self._host.clear(path)
        await self._host.cleared()
        self._host.groups.close()


def _ignore(*_: object) -> None:
    """What a trial prints is nobody's concern."""
