"""The client of a torture's jobs: does what its task says to the machines of its own job.

It runs in a client's sandbox. What is refused is not done; what finds nobody is tried again, since
the manager may be away for a while; and it finishes in any case.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

#: Seconds that one request is tried for, and between two tries.
PATIENCE = 90.0
PAUSE = 0.5


def main() -> int:
    """Do what is told in ``FAULTS``, one a line."""
    from syndicate.client import sync

    wire = sync.Wire()

    def insist(path: str, body: dict[str, Any]) -> None:
        key, until = uuid.uuid4().hex, time.monotonic() + PATIENCE
        while True:
            try:
                answer = wire.post(path, body, key)
            except (sync.Unavailable, sync.Timeout, sync.Unknown) as error:
                if time.monotonic() > until:
                    raise
                sys.stdout.write(f"C again {path} {error.code}\n")
                sys.stdout.flush()
                time.sleep(PAUSE)
            except sync.SyndicateError as error:
                sys.stdout.write(f"C refused {path} {error.code} {error}\n")
                return
            else:
                sys.stdout.write(f"C done {path} {answer.get('id', '')}\n")
                return
            finally:
                sys.stdout.flush()

    for line in os.environ["FAULTS"].splitlines():
        word, machine, *lease = line.split()
        if word == "mark":
            insist("/v1/marks", {"name": line})
            continue
        body: dict[str, Any] = {"machine": machine}
        body.update({"for": f"{lease[0]}s"} if lease and word in LEASED else {})
        body.update(AMOUNTS.get(word, {}))
        insist(f"/v1/faults/{word}", body)
    insist("/v1/finish", {"passed": True})
    return 0


#: Faults that may end by themselves, and what some must be told.
LEASED = frozenset({"kill", "disconnect", "pause", "loss", "delay"})
AMOUNTS: dict[str, dict[str, Any]] = {"loss": {"percent": 30}, "delay": {"delay": "20ms"}}


if __name__ == "__main__":
    sys.exit(main())
