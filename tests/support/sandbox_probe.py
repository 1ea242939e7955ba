"""Prints what a sandbox finds out: ``python -m tests.support.sandbox_probe STATE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from syndicate.domain.errors import SandboxFailed
from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import Kit, uids


async def _main(reactor: Any, state: str) -> None:
    directory = Path(state)
    sandbox = ChrootSandbox(reactor, directory / "state", "probe", uids(50))
    kit = Kit(sandbox, directory)
    try:
        facts = await sandbox.probe()
        print(facts.mode, *facts.enforced)
        print(await kit.shell(await kit.prepare(), "id -u; cat kept.txt"))
    except SandboxFailed as error:
        print(error)
    finally:
        await sandbox.close()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(_main(reactor, *words)), sys.argv[1:])
