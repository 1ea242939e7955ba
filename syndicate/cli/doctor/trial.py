"""The trial of a sandbox, in a process of its own: ``python -m syndicate.cli.doctor.trial STATE``.

It does what a volunteer does before it registers, removes the directory around its state, and
prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from syndicate.cli.doctor.enclosing import NAME, UIDS
from syndicate.domain.errors import SandboxFailed
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.confine.discard import discard


async def _try(reactor: Any, state: str) -> None:
    sandbox = ChrootSandbox(reactor, Path(state), NAME, UIDS)
    try:
        facts = await sandbox.probe()
        found = {
            "mode": facts.mode,
            "enforced": [*facts.enforced, *(["freezer"] if facts.freezer else [])],
            "remarks": list(facts.remarks),
        }
    except SandboxFailed as error:
        found = {"problem": str(error)}
    finally:
        await sandbox.close()
        discard(str(Path(state).parent))  # whoever has made it may have been killed
    print(json.dumps(found))


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(_try(reactor, *words)), sys.argv[1:])
