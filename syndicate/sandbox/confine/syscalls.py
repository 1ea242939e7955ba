"""The system calls that Python has no function for, by ctypes."""

from __future__ import annotations

import ctypes
import os

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

SIGKILL = 9
SIGTERM = 15
SIGCHLD = 17

_SIG_BLOCK = 0
_SIG_SETMASK = 2
_CAPABILITY_VERSION_3 = 0x20080522
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NOSUID = 2
_MOUNT_ATTR_NODEV = 4
# The same on every architecture, as all calls since 2018.
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 1
_LANDLOCK_SCOPE_SIGNAL = 2

_libc = ctypes.CDLL(None, use_errno=True)


class Signals(ctypes.Structure):
    """A set of signals, as ``sigset_t``."""

    _fields_ = (("bits", ctypes.c_ulong * 16),)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """Attach a file system to a directory; the flags are those of the system call."""
    _checked(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            os.fsencode(data) or None,
        ),
        f"mount {kind or source} on {target}",
    )


def bind(source: str, target: str) -> None:
    """Show a file or directory, with what is mounted beneath it, at another place too."""
    mount(source, target, None, MS_BIND | MS_REC)


def bind_read_only(source: str, target: str) -> None:
    """Show a directory at another place, where nothing can be changed through it."""
    bind(source, target)
    flags = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)
    done = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if done != 0:  # before Linux 5.12: the topmost mount only
        only = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV
        mount(source, target, None, only)


def unmount(target: str) -> None:
    """Detach a mount now; it ends when its last user does."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root of the mount namespace and put the former root at ``old``."""
    number = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
    machine = os.uname().machine
    if machine not in number:
        raise OSError(f"no number of pivot_root is known for {machine}")
    call = ctypes.c_long(number[machine])
    _checked(_libc.syscall(call, os.fsencode(new), os.fsencode(old)), "pivot_root")


def unshare(flags: int) -> None:
    """Leave the namespaces named by the flags for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def set_hostname(name: str) -> None:
    """Name the host, in the present UTS namespace."""
    data = name.encode()
    _checked(_libc.sethostname(data, ctypes.c_size_t(len(data))), "sethostname")


def prctl(option: int, value: int, further: int = 0) -> None:
    """Set one attribute of the calling thread."""
    rest = (ctypes.c_ulong(value), ctypes.c_ulong(further), *(ctypes.c_ulong(0),) * 2)
    _checked(_libc.prctl(ctypes.c_int(option), *rest), f"prctl {option}")


def die_with_parent() -> None:
    """Be killed when the thread that started us ends. Every change of uid undoes it."""
    prctl(PR_SET_PDEATHSIG, SIGKILL)


def clear_capabilities() -> None:
    """Give up all capabilities that the process holds."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def can_scope() -> bool:
    """Whether `scope` works here: from Linux 6.12 on, if Landlock was not turned off."""
    version = ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION)
    return int(_landlock(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), version)) >= 6


def scope() -> None:
    """Keep ourselves, and all that we start, from signals to those outside, and from their Unix
    sockets that have a name in no file system: these belong to the network namespace, and are open
    to everybody in it. We must have given up new privileges before.
    """
    scopes = _LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | _LANDLOCK_SCOPE_SIGNAL
    # struct landlock_ruleset_attr: what is handled of files, of the network, and the scopes.
    rules = (ctypes.c_uint64 * 3)(0, 0, scopes)
    size = ctypes.c_size_t(ctypes.sizeof(rules))
    ruleset = _landlock(_SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), size, ctypes.c_uint32(0))
    if ruleset < 0:
        _checked(ruleset, "landlock_create_ruleset")
    restricted = _landlock(_SYS_LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    _checked(restricted, "landlock_restrict_self")


def _landlock(number: int, *arguments: object) -> int:
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


def block(*signals: int) -> Signals:
    """Hold these signals back until `wait_signal` takes them."""
    wanted = Signals()
    for number in signals:
        _libc.sigaddset(ctypes.byref(wanted), number)
    _checked(_libc.sigprocmask(_SIG_BLOCK, ctypes.byref(wanted), None), "sigprocmask")
    return wanted


def wait_signal(wanted: Signals) -> int:
    """Wait until one of the signals that were blocked arrives."""
    number = ctypes.c_int(0)
    _libc.sigwait(ctypes.byref(wanted), ctypes.byref(number))
    return number.value


def reset_signals() -> None:
    """Give all signals their first meaning again, and block none (Python ignores SIGPIPE)."""
    for number in range(1, 65):
        _libc.signal(ctypes.c_int(number), ctypes.c_void_p(0))
    _checked(_libc.sigprocmask(_SIG_SETMASK, ctypes.byref(Signals()), None), "sigprocmask")
