"""Trying whether jobs can be enclosed on this host, with nothing left of the trial."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from syndicate.cli.doctor.findings import FAIL, OK, WARN, Finding
from syndicate.domain.errors import Unavailable

#: Of the volunteer that the trial is made for: its name, and user ids that neither labs nor other
#: volunteers use unless they are told to.
NAME = "doctor"
UIDS = (19992, 19999)

#: Seconds that the trial may take, and that its end may take to be seen.
TRIAL = 15.0
_SOON = 3.0

#: The checks that a trial answers: what each needs to be enforced, and how remarks on it are known.
_CHECKS = (
    ("control groups", ("memory", "cores", "cpu", "freezer"), "control group"),
    ("job disks", ("disk", "inodes"), "disk of a job"),
    ("system calls", ("seccomp",), "System calls"),
    ("sockets", ("scope",), "Unix sockets"),
)

_AS_ROOT = "See 'Volunteers without root' in doc/operating.rst."


def try_sandbox() -> list[Finding]:
    """Do what a volunteer does before it registers: run a program in a chroot of its own.

    :raises Unavailable: something of the trial cannot be taken away.
    """
    with _place() as place:
        found = _run(place)
    if problem := found.get("problem"):
        return [Finding("sandbox", FAIL, problem, _AS_ROOT)]
    mounted = f"{_versions()}; "
    return [
        attrs.evolve(each, seen=mounted + each.seen) if each.check == "control groups" else each
        for each in judge(found["mode"], found["enforced"], found["remarks"])
    ]


def judge(mode: str, enforced: Sequence[str], remarks: Sequence[str]) -> list[Finding]:
    """Tell what a sandbox has found out, by check.

    :param mode: ``root`` or ``user``.
    :param enforced: limits and walls.
    :param remarks: sentences on what is missing.
    """
    found, others = [], list(remarks)
    for check, needed, sign in _CHECKS:
        about = [remark for remark in remarks if sign in remark]
        others = [remark for remark in others if remark not in about]
        there = [each for each in needed if each in enforced]
        if len(there) == len(needed) and not about:
            found.append(Finding(check, OK, f"in force: {', '.join(there)}"))
        else:
            lacking = ", ".join(each for each in needed if each not in enforced)
            seen = f"not in force: {lacking}" if lacking else "in force in part"
            found.append(Finding(check, WARN, seen, " ".join(about)))
    how = {"root": "in chroots as users of their own", "user": "by user namespaces, without root"}
    seen = f"jobs run {how[mode]}; tried with one program"
    found.insert(0, Finding("sandbox", WARN if others else OK, seen, " ".join(others)))
    return found


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """A state directory for the trial; afterwards nothing is left of it, nor of what was there."""
    before = _passed_on()
    # On a disk, as that of a volunteer is; jobs' users are to find their way in.
    usual = "/var/tmp"
    place = Path(
        tempfile.mkdtemp(
            prefix="syndicate-doctor-", dir=usual if os.access(usual, os.W_OK | os.X_OK) else None
        )
    ).resolve()
    place.chmod(0o711)
    try:
        yield place
    finally:
        _clear(place)
        _take_back(before)


def _run(place: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "syndicate.cli.doctor.trial", str(place / "state")]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=TRIAL)
        except subprocess.TimeoutExpired:
            return {"problem": f"the trial of the sandbox was not done within {TRIAL:g} s"}
        finally:
            # Its children end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        last = (err.strip().splitlines() or [f"it ended with {process.returncode}"])[-1]
        return {"problem": f"the trial of the sandbox broke off: {last}"}
    return found


def _clear(place: Path) -> None:
    from syndicate.lab.leftovers import clear_sandboxes
    from syndicate.mounts import below
    from syndicate.sandbox.confine.discard import discard

    deadline = time.monotonic() + _SOON
    while True:
        try:
            clear_sandboxes({NAME: place / "state"})
            break
        except Unavailable:  # a process that was killed may not have ended yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    # What is mounted still would be emptied.
    if left := below(place):
        raise Unavailable(f"{left[0].point} is still mounted. Unmount it, then remove {place}.")
    discard(str(place))


def _versions() -> str:
    from syndicate.sandbox.hierarchies import mounts

    found = sorted({mount.version for mount in mounts()})
    return f"version {' and '.join(map(str, found))} mounted" if found else "none mounted"


def _controls() -> Iterator[Path]:
    from syndicate.sandbox.hierarchies import mounts

    for mount in mounts():
        if mount.version == 2:
            yield mount.point / "cgroup.subtree_control"


def _passed_on() -> dict[Path, set[str]]:
    """Which controllers the groups at the top let be used below them; a trial may add some."""
    found = {}
    for control in _controls():
        with contextlib.suppress(OSError):
            found[control] = set(control.read_text().split())
    return found


def _take_back(before: dict[Path, set[str]]) -> None:
    for control, names in before.items():
        with contextlib.suppress(OSError):  # somebody else has begun to use it
            for name in set(control.read_text().split()) - names:
                control.write_text(f"-{name}")
