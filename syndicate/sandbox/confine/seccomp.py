"""The system calls that a job is refused: a filter that the kernel runs before every call.

Nothing that the sandbox forbids rests on this alone: a job's user has no capability, so the kernel
refuses nearly all of these by itself. The filter keeps a job away from the code behind them, where
flaws of the kernel are found, and from the few that need no capability at all.

It is a program for the kernel's classic packet filter (linux/filter.h), which is given the fields
of ``struct seccomp_data`` (linux/seccomp.h): the number of the call at 0, the architecture's ABI at
4, and from 16 on the arguments, of eight bytes each. Both architectures here are little-endian, so
the lower half of an argument comes first. Arguments that are pointers cannot be looked behind.

The numbers are those of asm/unistd_64.h and asm-generic/unistd.h; that of ABIs is in linux/audit.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from syndicate.sandbox.confine import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: By ``uname -m``: the ABI that calls must have.
ABIS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: In which column of `REFUSED` the numbers are.
_COLUMN = {"x86_64": 0, "aarch64": 1}

#: Refused with EPERM whatever their arguments are: name, and number on x86_64 and on aarch64.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # What the job sees: mounts, roots, and files by their number behind the back of both.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    # Other processes' memory, registers and files.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # Keys are kept by user, and not all of them by namespace.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Large parts of the kernel with a history of flaws, which no target of a Makefile needs. What
    # is asked of a ring is seen by no filter.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    # The host itself.
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # Reading the clock's state, by adjtimex, is left to those who want to know how good it is.
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "iopl": (172, None),
    "ioperm": (173, None),
}

_CLONE = (56, 220)
_CLONE3 = (435, 435)
_UNSHARE = (272, 97)
_SOCKET = (41, 198)
_SOCKETPAIR = (53, 199)

#: Flags of clone for new namespaces: mount, cgroup, UTS, IPC, user, PID, network.
_NAMESPACES = 0x0002_0000 | 0x7E00_0000
#: The one of time, which to clone would be part of the signal's number.
_TIME_NAMESPACE = 0x80
#: Of sockets: unix, inet, inet6, netlink. Others reach hypervisors, load modules, or are obscure.
_FAMILIES = (1, 2, 10, 16)

#: Calls of the x32 ABI have this bit in their number, and the same ABI as the usual ones.
_X32 = 0x4000_0000

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ABI, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW = 0x7FFF_0000
_FAIL = 0x0005_0000

_INSTRUCTION = struct.Struct("=HBBI")
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def problem() -> str | None:
    """What keeps this host from having the filter, if something does."""
    machine = os.uname().machine
    if machine not in ABIS:
        return f"no numbers of system calls are known for {machine}"
    try:
        # A filter at address 0: a kernel that has filters cannot read it, one without says so.
        syscalls.prctl(_PR_SET_SECCOMP, _MODE_FILTER)
    except OSError as error:
        return None if error.errno == errno.EFAULT else f"the kernel has none ({error.strerror})"
    return "the kernel took one that is not there"


def refuse_calls() -> None:
    """Refuse the calls from now on: to us and to all that we start, for good. We must have given
    up new privileges before.

    :raises OSError: the kernel does not take the filter, or the architecture is not known.
    """
    code = program(os.uname().machine)
    filter_ = _Program(len(code) // _INSTRUCTION.size, code)
    syscalls.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(filter_))


def program(machine: str) -> bytes:
    """The filter's instructions.

    :param machine: the architecture, as ``uname -m`` names it.
    :raises OSError: it is not known.
    """
    if machine not in ABIS:
        raise OSError(f"no numbers of system calls are known for {machine}")
    return b"".join(_INSTRUCTION.pack(*step) for step in _steps(machine))


def _steps(machine: str) -> Iterator[tuple[int, int, int, int]]:
    """Code, how many steps to skip if the condition holds and if it does not, and an operand."""
    column = _COLUMN[machine]
    yield _LOAD, 0, 0, _ABI
    yield _JUMP_EQUAL, 1, 0, ABIS[machine]
    yield _fail(errno.EPERM)
    yield _LOAD, 0, 0, _NUMBER
    if machine == "x86_64":
        yield _JUMP_GREATER_EQUAL, 0, 1, _X32
        yield _fail(errno.EPERM)
    for numbers in REFUSED.values():
        number = numbers[column]
        if number is not None:
            yield _JUMP_EQUAL, 0, 1, number
            yield _fail(errno.EPERM)
    # Its flags lie in memory, where they cannot be seen; the C library then takes clone.
    yield _JUMP_EQUAL, 0, 1, _CLONE3[column]
    yield _fail(errno.ENOSYS)
    for number, flags in (
        (_CLONE[column], _NAMESPACES),
        (_UNSHARE[column], _NAMESPACES | _TIME_NAMESPACE),
    ):
        yield _JUMP_EQUAL, 0, 4, number
        yield _LOAD, 0, 0, _FIRST_ARGUMENT
        yield _JUMP_SET, 0, 1, flags
        yield _fail(errno.EPERM)
        yield _RETURN, 0, 0, _ALLOW
    for number in (_SOCKET[column], _SOCKETPAIR[column]):
        yield _JUMP_EQUAL, 0, 3 + len(_FAMILIES), number
        yield _LOAD, 0, 0, _FIRST_ARGUMENT
        for index, family in enumerate(_FAMILIES):
            yield _JUMP_EQUAL, len(_FAMILIES) - index, 0, family
        yield _fail(errno.EAFNOSUPPORT)
        yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, _ALLOW


def _fail(number: int) -> tuple[int, int, int, int]:
    return _RETURN, 0, 0, _FAIL | number
