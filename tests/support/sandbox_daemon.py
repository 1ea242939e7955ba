"""A daemon with a job running, to be killed: ``python -m tests.support.sandbox_daemon STATE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import Kit

#: The user ids that it uses.
UIDS = (41300, 41309)


async def _main(reactor: Any, state: str, mode: str) -> None:
    directory = Path(state)
    kit = Kit(ChrootSandbox(reactor, directory / "state", "doomed", UIDS, mode), directory)
    await kit.sandbox.sweep()
    await kit.sandbox.probe()
    enclosure = await kit.prepare()
    script = "setsid sh -c 'exec >/dev/null 2>&1; sleep 601 & sleep 601' & exec sleep 602"
    await enclosure.start(["sh", "-c", f"trap '' TERM; {script}"], {}, kit.take)
    await kit.prepare("1.1.slave-0")
    print("up", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(_main(reactor, *words)), sys.argv[1:])
