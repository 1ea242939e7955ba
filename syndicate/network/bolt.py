"""The table that keeps one volunteer's jobs from ports, from when it is made to its end."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator

import attrs
from twisted.logger import Logger

from syndicate.domain.errors import SandboxFailed
from syndicate.network import rules
from syndicate.network.doors import REFUSALS, Users, change, table
from syndicate.network.interface import GROUP, USER, Doors
from syndicate.network.libnftables import Nftables, NftError

_log = Logger()

#: An address of this host's own that nobody uses.
_ADDRESS = "127.90.83.89"
#: Seconds that a connection on this host is waited for.
_PATIENCE = 0.2


@attrs.define(eq=False)
class Bolt:
    """Shuts ports.

    :param name: the table's.
    :param match: `GROUP` or `USER`, or ``auto``: the first where it can be, else the second.
    """

    _name: str
    _match: str
    #: By what jobs are told, and the connection that owns the table, once it is there; and if that
    #: is ours alone, it once more.
    _how: str = attrs.field(init=False, default="")
    _nft: Nftables | None = attrs.field(init=False, default=None)
    _own: Nftables | None = attrs.field(init=False, default=None)

    def shut(self, doors: Doors, nft: Nftables | None, group: rules.Ours | None) -> str:
        """See `INetworkFaults.shut`.

        :param nft: a connection that outlives this, if there is one.
        :param group: how jobs are known by control group, if they are.
        """
        text = change(self._name, doors)
        if self._nft is not None:
            try:
                self._nft.run(text)
            except NftError as error:  # it could be before, and must be now
                raise SandboxFailed(
                    f"Jobs cannot be kept from the daemons' ports any more: {error}."
                ) from error
            return self._how
        problems = []
        for how, ours in self._ways(doors, group):
            try:
                self._make(nft if how == GROUP else None, ours).run(text)
            except (NftError, OSError, SandboxFailed) as error:
                self.close()
                problems.append(f"by {how}: {str(error).rstrip('.')}")
            else:
                self._how = how
                return how
        if problems:
            why = "; ".join(problems)
            _log.warn("Jobs cannot be kept from the daemons' ports: {why}.", why=why)
        return ""

    def _ways(
        self, doors: Doors, group: rules.Ours | None
    ) -> Iterator[tuple[str, rules.Ours | Users]]:
        if group is not None and self._match != USER:
            yield GROUP, group
        if doors.uids is not None and self._match != GROUP:
            yield USER, Users(*doors.uids)

    def _make(self, nft: Nftables | None, ours: rules.Ours | Users) -> Nftables:
        if nft is None:
            nft = self._own = Nftables()
        for refusal in REFUSALS:
            try:
                nft.run(table(self._name, ours, refusal))
            except NftError:
                if refusal == REFUSALS[-1]:
                    raise
            else:
                break
        self._nft = nft
        if isinstance(ours, Users):
            _prove(nft, self._name, ours)
        return nft

    def close(self) -> None:
        """Let jobs connect where they like; the connection that was given may be closed already."""
        if self._own is not None:
            self._own.close()
        elif self._nft is not None:
            try:
                self._nft.run(f"delete table inet {self._name}")
            except NftError as error:
                _log.debug("the table {name} is gone: {why}", name=self._name, why=str(error))
        self._nft = self._own = None
        self._how = ""


def _prove(nft: Nftables, name: str, users: Users) -> None:
    """Try it, with connections on this host: a rule that is taken may match nothing.

    :raises SandboxFailed: they are not refused, or others are.
    """
    with socket.create_server((_ADDRESS, 0)) as listening:
        port = listening.getsockname()[1]
        nft.run(f"add element inet {name} closed4 {{ {_ADDRESS} . {port} }}")
        if not _connects(port):
            raise SandboxFailed("a connection on this host itself fails; is `lo` up?")
        for uid in {users.first, users.last}:
            if _connects(port, uid):
                raise SandboxFailed("rules by user are taken, but match no packet")


def _connects(port: int, uid: int | None = None) -> bool:
    with _socket_of(uid) as made:
        made.settimeout(_PATIENCE)
        try:
            made.connect((_ADDRESS, port))
        except (ConnectionRefusedError, TimeoutError):
            return False
        return True


def _socket_of(uid: int | None) -> socket.socket:
    """A socket that somebody else has made, as far as the kernel is concerned."""
    if uid is None:
        return socket.socket()
    # Of this thread alone, and of nothing but files and sockets.
    change_user = ctypes.CDLL(None).setfsuid
    change_user(uid)
    try:
        if change_user(-1) != uid:
            raise SandboxFailed("it cannot be tried, as we may not act as another user")
        return socket.socket()
    finally:
        change_user(os.geteuid())
