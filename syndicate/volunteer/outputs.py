"""Brings what a machine has left in its files, and its job wants to keep, to the manager."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobTransfer
from syndicate.domain.errors import SyndicateError
from syndicate.sandbox.interface import IEnclosure
from syndicate.volunteer.spool import Spool

log = Logger()


async def keep_outputs(
    enclosure: IEnclosure,
    patterns: Sequence[str],
    transfer: IBlobTransfer,
    directory: Path,
    spool: Spool,
) -> str | None:
    """Collect the outputs and bring them to the manager; only while nothing runs.

    What fails is told in the log, the job's too.

    :param directory: where their tarball lies until the manager has it.
    :returns: the digest of that tarball, which is safe on the manager; None if there is nothing.
    """
    if not patterns:
        return None
    path = directory / f"{enclosure.plot.key}.tar"
    try:
        if not await enclosure.collect(patterns, path):
            return None
        sha256 = await deferToThread(_digest, path)
        await transfer.upload(path, sha256)
    except SyndicateError as error:
        log.error("The outputs could not be kept: {why}", why=str(error))
        spool.write(2, f"syndicate: the outputs could not be kept: {error}\n".encode())
        return None
    finally:
        path.unlink(missing_ok=True)
    return sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
