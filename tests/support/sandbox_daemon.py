"""A daemon with a job running, to be killed: ``python -m tests.support.sandbox_daemon STATE MODE``.

More words: ``paused`` for a job that stands still, ``first`` for only the first version of control
groups.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from syndicate.sandbox import hierarchies
from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import NAP, Kit, only_first_version, sleepers, uids, until

#: The user ids that it uses.
UIDS = uids(30)


async def _main(reactor: Any, state: str, mode: str, *words: str) -> None:
    if "first" in words:
        only_first_version(partial(setattr, hierarchies))
    directory = Path(state)
    kit = Kit(ChrootSandbox(reactor, directory / "state", "doomed", UIDS, mode), directory)
    await kit.sandbox.sweep()
    await kit.sandbox.probe()
    enclosure = await kit.prepare()
    nap = f"exec >/dev/null 2>&1; sleep {NAP} & sleep {NAP}"
    script = f"setsid sh -c '{nap}' & exec sleep {NAP}"
    run = await enclosure.start(["sh", "-c", f"trap '' TERM; {script}"], {}, kit.take)
    if "paused" in words:
        await until(lambda: len(sleepers()) == 3)
        await run.pause()
    await kit.prepare("1.1.slave-0")
    print("up", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(_main(reactor, *words)), sys.argv[1:])
