"""Looking whether anything is left of a lab that was taken down."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from syndicate.lab import network, processes
from syndicate.lab.leftovers import group_names
from syndicate.lab.processes import NAMESPACES
from syndicate.lab.state import Description
from syndicate.mounts import loops_below, mounts


def find_traces(directory: Path, description: Description | None) -> list[str]:
    """What is left of a lab after it was taken down, a sentence each: there should be nothing.

    :param directory: the lab's.
    :param description: what it had written down of itself, if anything.
    """
    traces = [f"the file {directory}"] if directory.exists() else []
    traces += [f"the mount {mount.point}" for mount in mounts() if mount.concerns(directory)]
    traces += [f"the loop device {device.name}" for device in loops_below(directory)]
    if description is not None:
        traces += _named_traces(directory, description)
        traces += _processes_of(description)
    return traces


def _named_traces(directory: Path, description: Description) -> list[str]:
    prefix, bridge = f"{description.bridge}-", description.bridge
    names = [n for n in network.interfaces() if n.startswith(prefix) or n == bridge]
    spaces = [path.name for path in NAMESPACES.glob(f"{prefix}*")]
    groups = sorted(_group_names_of(directory, description))
    return [
        *(f"the network interface {name}" for name in names),
        *(f"the network namespace {name}" for name in spaces),
        *(f"the control group {name}" for name in groups),
        *_tables(),
    ]


def _group_names_of(directory: Path, description: Description) -> set[str]:
    from syndicate.sandbox.host import tag_of

    hosts = [host.name for host in description.volunteers]
    names = {f"syndicate-{tag_of(name, directory / name / 'state')}" for name in hosts}
    return group_names() & (names | {f"{name}-network" for name in names})


def _tables() -> list[str]:
    """Tables of packet filters with our name, where the command that lists them is."""
    nft = shutil.which("nft")
    if nft is None:
        return []
    run = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=False)
    return [f"the {line}" for line in run.stdout.splitlines() if " syn_" in line]


def _processes_of(description: Description) -> list[str]:
    """Those of the jobs' users, and the daemons."""
    ranges = [range(u[0], u[1] + 1) for host in description.volunteers if (u := host.uids)]
    daemons = {host.pid: host.began for host in description.hosts.values()}
    traces = []
    for pid in processes.all_pids():
        try:
            owner = os.stat(f"/proc/{pid}").st_uid
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue  # it has just ended
        identity = processes.identify(pid)
        is_daemon = identity is not None and daemons.get(pid) == identity.began
        if is_daemon or any(owner in each for each in ranges):
            traces.append(f"the process {pid} ({name})")
    return traces
