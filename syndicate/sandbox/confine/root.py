"""Building the job's root file system, in a mount namespace of its own, and moving into it."""

from __future__ import annotations

import os

from syndicate.sandbox.confine import loop, syscalls
from syndicate.sandbox.confine.discard import discard
from syndicate.sandbox.confine.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, bind, mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syndicate.sandbox.orders import Identity, Place

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_MASKED = ("kcore", "kmsg", "keys", "sysrq-trigger", "timer_list")
_READ_ONLY = ("sys", "irq", "bus", "fs")
#: Size of ``/dev/shm``, and how many files it holds; both count as the job's memory.
_SHM = "64m,nr_inodes=10000"


def enter(place: Place, identity: Identity) -> None:
    """Build the place and make it the root, so that nothing of the host can be reached but what
    was put into it. We must be alone in a new mount namespace, with the right to mount.
    """
    mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    outer = place["root"]
    mount("syndicate", outer, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=16k,mode=755")
    inner = f"{outer}/root"
    os.mkdir(inner, 0o755)
    disk = _disk(place, identity, outer)
    _overlay(place, identity, disk, inner)
    if place["furnished"]:
        bind(f"{disk}/tmp", f"{inner}/tmp")
        syscalls.bind_read_only("/usr", f"{inner}/usr")
        _devices(f"{inner}/dev")
        _processes(f"{inner}/proc")
    for index, (shown, _) in enumerate(place["shares"]):
        os.mkdir(f"{outer}/share-{index}", 0o755)
        syscalls.bind_read_only(shown, f"{outer}/share-{index}")
    if place["image"]:
        syscalls.unmount(disk)  # the overlay and /tmp keep it alive
    os.chdir(outer)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    kept = os.O_PATH | os.O_CLOEXEC
    shares = [os.open(f"/share-{index}", kept) for index in range(len(place["shares"]))]
    # The kernel refuses user namespaces to whoever sits in a chroot that is not the mount
    # namespace's own root: pivot_root alone would leave that door open.
    os.chdir("/root")
    os.chroot(".")
    # Not before: the job may have put links in the way, which now lead nowhere but into its own.
    for share, (_, where) in zip(shares, place["shares"], strict=True):
        _show(share, where)
    os.chdir("/")


def _show(share: int, where: str) -> None:
    """Show an open directory at another place too, which is made if the job has removed it."""
    os.makedirs(where, exist_ok=True)
    os.fchdir(share)
    bind(".", where)
    os.close(share)


def _disk(place: Place, identity: Identity, outer: str) -> str:
    """Mount the job's disk image, if it has one, and make sure of what has to be on it."""
    disk = place["disk"]
    if place["image"]:
        disk = f"{outer}/disk"
        os.mkdir(disk, 0o755)
        device, path = loop.attach(place["image"])
        try:
            # No barriers: a disk that is thrown away after a crash of the host need not be safe.
            options = "nobarrier,noinit_itable,errors=remount-ro"
            mount(path, disk, "ext4", MS_NOSUID | MS_NODEV | syscalls.MS_NOATIME, options)
        finally:
            os.close(device)
    if place["furnished"]:
        discard(f"{disk}/tmp")
    for name, mode in (("upper", 0o755), ("work", 0o700), ("tmp", 0o1777)):
        try:
            os.mkdir(f"{disk}/{name}", mode)
        except FileExistsError:
            continue
        os.chmod(f"{disk}/{name}", mode)
        if identity["mode"] == "root" and name == "upper":
            os.chown(f"{disk}/{name}", identity["uid"], identity["uid"])
    return disk


def _overlay(place: Place, identity: Identity, disk: str, inner: str) -> None:
    extra = "userxattr" if identity["mode"] == "user" else "redirect_dir=on"
    layers = f"lowerdir={':'.join(place['lower'])},upperdir={disk}/upper,workdir={disk}/work"
    mount("syndicate", inner, "overlay", MS_NOSUID | MS_NODEV, f"{layers},{extra}")


def _devices(directory: str) -> None:
    mount("dev", directory, "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=755")
    for name in _DEVICES:
        os.close(os.open(f"{directory}/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
        bind(f"/dev/{name}", f"{directory}/{name}")
    for name, target in _DEVICE_LINKS:
        os.symlink(target, f"{directory}/{name}")
    os.mkdir(f"{directory}/shm")
    mount("shm", f"{directory}/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"size={_SHM},mode=1777")


def _processes(directory: str) -> None:
    mount("proc", directory, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in _MASKED:
        if os.path.exists(f"{directory}/{name}"):
            bind("/dev/null", f"{directory}/{name}")
    for name in _READ_ONLY:
        if os.path.isdir(f"{directory}/{name}"):
            syscalls.bind_read_only(f"{directory}/{name}", f"{directory}/{name}")
