"""Looking at the processes of a lab's jobs from outside, and at what daemons use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from syndicate.lab import processes
from syndicate.lab.processes import NAMESPACES, Identity
from syndicate.lab.state import Host
from syndicate.mounts import below, loops_below
from syndicate.torture.facts import Run, Sighting

#: What a volunteer's outbox has of no particular job.
_KEPT = frozenset({"term", "given-back"})

_KEYS = ("SYNDICATE_JOB", "SYNDICATE_ATTEMPT", "SYNDICATE_MACHINE")


def look(hosts: Mapping[str, Host]) -> list[Sighting]:
    """All processes of jobs that live, by their users; all those told have lived at once."""
    found = [(each, sighting) for each, sighting in _walk(hosts)]
    # What has ended between the first look and this one may not have met what began meanwhile.
    return [sighting for identity, sighting in found if processes.is_alive(identity)]


def _walk(hosts: Mapping[str, Host]) -> Iterator[tuple[Identity, Sighting]]:
    owners = {
        uid: host
        for host in hosts.values()
        if host.uids
        for uid in range(host.uids[0], host.uids[1] + 1)
    }
    for pid in processes.all_pids():
        # It may end at any time, and then nothing is there to be seen.
        with contextlib.suppress(OSError, ValueError):
            host = owners.get(os.stat(f"/proc/{pid}").st_uid)
            if host is None or (identity := processes.identify(pid)) is None:
                continue
            run = _run_of(pid)
            if run is None:
                continue
            own = os.stat(NAMESPACES / host.namespace).st_ino
            inside = os.stat(f"/proc/{pid}/ns/net").st_ino == own
            yield identity, Sighting(run, host.name, pid, time.time(), inside)


def _run_of(pid: int) -> Run | None:
    told = {}
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        key, _, value = entry.partition(b"=")
        told[key.decode("ascii", "replace")] = value.decode("ascii", "replace")
    if not all(key in told for key in _KEYS):
        return None
    job, attempt, machine = (told[key] for key in _KEYS)
    return Run(int(job), int(attempt), machine)


def usage(pid: int) -> tuple[int, int] | None:
    """Bytes of resident memory and open descriptors of a process; None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def leftovers(directory: Path, host: Host) -> list[str]:
    """What is left of jobs on a volunteer that has none: there should be nothing."""
    state = directory / host.name / "state"
    left = [
        f"the file {path}"
        for place in ("jobs", "spool", "outbox", "doors", "trash")
        if (state / place).is_dir()
        for path in (state / place).iterdir()
        if path.name not in _KEPT
    ]
    left += [f"the mount {mount.point}" for mount in below(state) if mount.point != state]
    left += [f"the loop device {device.name}" for device in loops_below(state)]
    assert host.uids is not None, "it is a volunteer"
    owners = range(host.uids[0], host.uids[1] + 1)
    for pid in processes.all_pids():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid in owners and processes.identify(pid):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                left.append(f"the process {pid} ({name})")
    return left + _tables(host)


def _tables(host: Host) -> list[str]:
    command = processes.in_namespace(host.namespace, ["nft", "list", "tables"])
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return [f"its packet filter, which cannot be read: {run.stderr.strip()}"]
    # The one that keeps jobs from the daemons' ports is no job's, and stays.
    tables = [line for line in run.stdout.splitlines() if not line.endswith("_doors")]
    return [f"the {line}" for line in tables]
