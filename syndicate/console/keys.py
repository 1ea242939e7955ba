"""Host key and the keys of people: files that only the daemon's user and root can change."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.checkers import IAuthorizedKeysDB
from twisted.conch.ssh.keys import BadKeyError, FingerprintFormats, Key
from twisted.logger import Logger
from zope.interface import implementer

from syndicate.domain.errors import Invalid
from syndicate.durable import replace_file

log = Logger()

_USER = re.compile(rb"[a-z_][a-z0-9_.-]{0,30}")
#: Where the options of a key end, in the lines of OpenSSH.
_TYPES = re.compile(rb"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ ")
#: Bytes of the largest file of keys.
LARGEST = 256 << 10


def host_key(path: Path) -> Key:
    """The host key in a file (0600), made when there is none, with ``.pub`` beside it.

    :raises Invalid: it cannot be read or made.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Key(Ed25519PrivateKey.generate())
            path.with_name(path.name + ".pub").write_bytes(public_line(made) + b"\n")
            replace_file(path, made.toString("openssh", comment="syndicate"))
        key: Key = Key.fromString(path.read_bytes())
    except OSError as error:
        raise Invalid(f"The console's host key {path} cannot be used: {error.strerror}.") from error
    except BadKeyError as error:
        raise Invalid(f"The console's host key {path} is none: {error}. Remove it.") from error
    return key


def public_line(key: Key) -> bytes:
    """The public half as a line of OpenSSH: ``ssh-ed25519 AAAA…``."""
    line: bytes = key.public().toString("openssh")
    return line.strip()


def fingerprint(key: Key) -> str:
    """``SHA256:…``, as ``ssh-keygen -l`` shows it."""
    told: str = key.fingerprint(FingerprintFormats.SHA256_BASE64)
    return "SHA256:" + told.removeprefix("SHA256:").rstrip("=")


@implementer(IAuthorizedKeysDB)
@attrs.frozen
class KeyDirectory:
    """``<directory>/<user>.keys``: the public keys of each person, read anew at each login.

    :param users: who may log in at all.
    """

    directory: Path
    users: frozenset[str]

    def file_of(self, name: str) -> Path:
        """Where the keys of a user are."""
        return self.directory / f"{name}.keys"

    def getAuthorizedKeys(self, username: bytes) -> Iterator[Key]:
        """The keys of a user; none for what is no name, or not a user's of this console."""
        name = username.decode("ascii", "replace")
        if not _USER.fullmatch(username) or name not in self.users:
            return
        path = self.file_of(name)
        try:
            if problem := self._unsafe(path):
                log.error("No key of {user} is taken: {why}", user=name, why=problem)
                return
            lines = path.read_bytes()[:LARGEST].splitlines()
        except OSError as error:
            log.error(
                "No key of {user}: {path}: {why}. Put public keys of that person's there, one a "
                "line, as in ~/.ssh/id_ed25519.pub.",
                user=name,
                path=path,
                why=error.strerror,
            )
            return
        count = 0
        for number, line in enumerate(lines, 1):
            key = self._read(path, number, line.strip())
            if key is not None:
                count += 1
                yield key
        if not count:
            log.error(
                "{path} holds 0 keys that can be used, so {user} cannot log in. Put public keys "
                "there, one a line, as in ~/.ssh/id_ed25519.pub.",
                path=path,
                user=name,
            )

    @staticmethod
    def _read(path: Path, number: int, line: bytes) -> Key | None:
        if not line or line.startswith(b"#"):
            return None
        try:
            made: Key = Key.fromString(line)
        except (BadKeyError, ValueError, TypeError, IndexError) as error:
            if (found := _TYPES.search(line)) and found.start():
                # Options restrict what a key may do: not to heed them would be to give more.
                why = "it begins with options, which are not understood; give the key alone"
            else:
                why = f"it is no public key: {error}"
            log.error("{path}, line {n}, is skipped: {why}.", path=path, n=number, why=why)
            return None
        return made

    def _unsafe(self, path: Path) -> str:
        """Why somebody else could have put keys there; empty if nobody could."""
        for each in (self.directory, path):
            found = each.stat()
            if found.st_uid not in (0, os.geteuid()):
                return f"{each} belongs to user {found.st_uid}; say: chown {os.geteuid()} {each}"
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"{each} can be written by others; say: chmod go-w {each}"
        return ""
