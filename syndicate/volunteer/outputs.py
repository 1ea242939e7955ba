"""Brings what a machine has left in its files, and its job wants to keep, to the manager."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobTransfer
from syndicate.domain.errors import SyndicateError
from syndicate.sandbox.interface import IEnclosure
from syndicate.volunteer.spool import Spool

log = Logger()


@attrs.frozen
class Kept:
    """What came of a machine's outputs."""

    #: The digest of their tarball, which is safe on the manager; None if there is none.
    sha256: str | None = None
    #: What the job wanted to keep and is not in it, and why, in phrases.
    left_out: tuple[str, ...] = ()


async def keep_outputs(
    enclosure: IEnclosure,
    patterns: Sequence[str],
    transfer: IBlobTransfer,
    directory: Path,
    spool: Spool,
) -> Kept:
    """Collect the outputs and bring them to the manager; only while nothing runs.

    What fails is told in what is returned, and in the log, the job's too.

    :param directory: where their tarball lies until the manager has it.
    """
    if not patterns:
        return Kept()
    path = directory / f"{enclosure.plot.key}.tar"
    try:
        collected = await enclosure.collect(patterns, path)
        if not collected.size:
            return Kept(None, collected.left_out)
        sha256 = await deferToThread(_digest, path)
        await transfer.upload(path, sha256)
    except SyndicateError as error:
        log.error("The outputs could not be kept: {why}", why=str(error))
        spool.write(2, f"syndicate: the outputs could not be kept: {error}\n".encode())
        return Kept(None, (f"the outputs could not be kept: {error}",))
    finally:
        path.unlink(missing_ok=True)
    return Kept(sha256, collected.left_out)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
