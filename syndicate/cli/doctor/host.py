"""Whether this host can run a lab, or be a volunteer."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from syndicate.cli.doctor.enclosing import try_sandbox
from syndicate.cli.doctor.findings import FAIL, OK, SKIPPED, WARN, Finding, attempt, look
from syndicate.domain.errors import Corrupt
from syndicate.domain.job import Limits
from syndicate.domain.quantities import say_size
from syndicate.lab import state

#: Where jobs find their programs: that of the host, as they see its ``/usr``.
_JOBS_PATH = "/usr/local/bin:/usr/bin"

#: Part of the table of neighbours that is in use when it becomes narrow.
_NARROW = 0.75


def examine() -> Iterator[Finding]:
    """Look at everything that a lab or a volunteer needs."""
    for check, work in (
        ("root", _root),
        ("commands", _commands),
        ("job programs", _job_programs),
        ("packet filter", _packet_filter),
        ("overlay", _overlay),
    ):
        yield from look(check, work)
    yield from attempt("sandbox", try_sandbox)
    for check, work in (
        ("user namespaces", _user_namespaces),
        ("kernel settings", _kernel_settings),
        ("disk room", _disk_room),
        ("labs", _labs),
    ):
        yield from look(check, work)


def _root() -> list[Finding]:
    from syndicate.lab.root import may_make_networks

    if os.geteuid() == 0:
        if not _of_host():
            advice = "A lab needs root of the host, or of a container with a network of its own."
            return [Finding("root", WARN, "you are root of a user namespace only", advice)]
        if may_make_networks():
            return [Finding("root", OK, "you are root, with all that a lab needs")]
        advice = (
            "Give the container CAP_SYS_ADMIN and CAP_NET_ADMIN (docker run --privileged), or use"
            " a virtual machine."
        )
        return [Finding("root", FAIL, "this root may not make network namespaces", advice)]
    if sudo := shutil.which("sudo"):
        return [Finding("root", OK, f"you are not root; a lab asks {sudo}")]
    advice = "Become root for a lab. A volunteer can do without."
    return [Finding("root", WARN, "you are not root, and there is no sudo", advice)]


def _of_host() -> bool:
    """Whether our user ids are those of the host, and root is all that it can be."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]


def _commands() -> list[Finding]:
    from syndicate.lab.cluster import missing_commands

    if missing := missing_commands():
        advice = "A lab needs them. On Debian: apt-get install iproute2 util-linux"
        return [Finding("commands", FAIL, f"not on the path: {', '.join(missing)}", advice)]
    return [Finding("commands", OK, "ip and nsenter are on the path")]


def _job_programs() -> list[Finding]:
    found = {name: shutil.which(name, path=_JOBS_PATH) for name in ("make", "python3")}
    seen = ", ".join(path or f"no {name}" for name, path in found.items())
    if found["make"] is None:
        advice = "No job starts without it. On Debian: apt-get install make"
        return [Finding("job programs", FAIL, seen, advice)]
    if found["python3"] is None:
        advice = "Jobs in Python need it in /usr/bin. On Debian: apt-get install python3"
        return [Finding("job programs", WARN, seen, advice)]
    return [Finding("job programs", OK, seen)]


def _packet_filter() -> list[Finding]:
    from syndicate.network.libnftables import Nftables, NftError

    if os.geteuid() != 0 or not _of_host():
        return [Finding("packet filter", SKIPPED, "only root of the host can try it")]
    try:
        with contextlib.closing(Nftables()) as filter_:
            filter_.run("list tables")
    except NftError as error:
        advice = "Without it jobs run, but their clients cannot cut or disturb the network."
        return [Finding("packet filter", WARN, str(error), advice)]
    return [Finding("packet filter", OK, "libnftables answers, as faults of the network need")]


def _overlay() -> list[Finding]:
    kinds = Path("/proc/filesystems").read_text().split()
    if "overlay" in kinds:
        return [Finding("overlay", OK, "the kernel has overlay file systems")]
    advice = "If the check 'sandbox' fails: modprobe overlay"
    return [Finding("overlay", WARN, "the kernel lists no overlay file systems yet", advice)]


#: Which values of settings let an ordinary user make user namespaces.
_USER_NAMESPACES: dict[str, Callable[[int], bool]] = {
    "user.max_user_namespaces": lambda value: value > 0,
    "kernel.unprivileged_userns_clone": lambda value: value != 0,
    "kernel.apparmor_restrict_unprivileged_userns": lambda value: value == 0,
}


def _user_namespaces() -> list[Finding]:
    values = {name: value for name in _USER_NAMESPACES if (value := _setting(name)) is not None}
    seen = ", ".join(f"{name} = {value}" for name, value in values.items()) or "no setting"
    wrong = [name for name, value in values.items() if not _USER_NAMESPACES[name](value)]
    if os.geteuid() == 0 and _of_host():
        return [Finding("user namespaces", SKIPPED, "not needed by root")]
    if wrong:
        advice = "For volunteers without root: etc/sysctl.d/60-syndicate.conf has the settings."
        return [Finding("user namespaces", WARN, seen, advice)]
    return [Finding("user namespaces", OK, seen)]


def _kernel_settings() -> list[Finding]:
    if _setting("net.core.tstamp_allow_data") == 0:
        advice = "sysctl net.core.tstamp_allow_data=1"
        seen = "net.core.tstamp_allow_data = 0: faults of the network cannot be proved"
        return [Finding("kernel settings", WARN, seen, advice)]
    name = "net.ipv4.neigh.default.gc_thresh3"
    most = _setting(name)
    if most is None:
        return [Finding("kernel settings", SKIPPED, f"there is no {name} here")]
    used = len(Path("/proc/net/arp").read_text().splitlines()) - 1
    seen = f"{used} of at most {most} neighbours ({name})"
    if used > most * _NARROW:
        advice = "Copy etc/sysctl.d/60-syndicate.conf to /etc/sysctl.d, then: sysctl --system"
        return [Finding("kernel settings", WARN, seen, advice)]
    return [Finding("kernel settings", OK, seen)]


def _setting(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", *name.split(".")).read_text())
    except FileNotFoundError:
        return None


def _disk_room() -> list[Finding]:
    """Where labs are, and where volunteers keep their state unless they are told otherwise."""
    usual = Path("/var/lib/syndicate")
    rooms: dict[int, tuple[int, Path]] = {}
    for wanted in (state.labs_directory(), usual):
        place = next(path for path in (wanted, *wanted.parents) if path.exists())
        rooms.setdefault(place.stat().st_dev, (shutil.disk_usage(place).free, place))
    seen = ", ".join(f"{say_size(free)} free at {place}" for free, place in rooms.values())
    needed = Limits().disk
    if any(free < needed for free, _ in rooms.values()):
        advice = (
            f"A machine may fill {say_size(needed)} unless its job says less, and is refused where"
            " there is no room for that. Free some."
        )
        return [Finding("disk room", WARN, seen, advice)]
    return [Finding("disk room", OK, seen)]


def _labs() -> list[Finding]:
    """Labs that are not whole: this user's by their files, and anybody's by what has none."""
    whole, broken = [], []
    for name in state.all_labs():
        remedy = f"syndicate lab down --name {name}"
        try:
            found = state.read(state.lab_directory(name))
        except Corrupt:
            broken.append((f"{name} cannot be read", remedy))
            continue
        if found is None:
            continue
        if found.stage == "up" and found.boot != state.this_boot():
            broken.append((f"{name} ended with the machine", remedy))
        elif found.stage == "building":
            broken.append((f"{name} is half-built, unless it is being built now", remedy))
        else:
            whole.append(f"{name} is {found.stage}")
    for bridge in _orphans():
        remedy = "the next syndicate lab up takes it away"
        broken.append((f"{bridge} is left of a lab without files", remedy))
    if broken:
        remedies = (remedy for _, remedy in broken)
        seen = "; ".join([*(seen for seen, _ in broken), *whole])
        return [Finding("labs", WARN, seen, "; ".join(dict.fromkeys(remedies)))]
    return [Finding("labs", OK, "; ".join(whole) or "you have none, and nothing is left of any")]


def _orphans() -> list[str]:
    """Bridges of labs whose files are gone."""
    from syndicate.lab import leftovers, network
    from syndicate.lab.cluster import missing_commands

    if missing_commands():
        return []
    found = []
    for claim in network.claims():
        with contextlib.suppress(PermissionError):  # it has files, and they are another user's
            if not leftovers.is_owned(claim):
                found.append(claim.bridge)
    return found
