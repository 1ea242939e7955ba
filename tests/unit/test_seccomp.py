"""The filter of system calls, run by an interpreter of its few instructions."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from syndicate.sandbox.confine import seccomp

ALLOWED = "allowed"
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
MACHINES = sorted(seccomp.ABIS)
COLUMN = {"x86_64": 0, "aarch64": 1}
FLAGS = {"mount": 0x20000, "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}
FORK = 0x01200011  # as the C library does it


def verdict(machine: str, number: int, *arguments: int, abi: int | None = None) -> object:
    """What the kernel would do: the errno of a refusal, or `ALLOWED`."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, seccomp.ABIS[machine] if abi is None else abi, 0, *words)
    code = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    at, loaded = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == 0x06:
            return ALLOWED if operand == 0x7FFF0000 else operand - 0x00050000
        if operation == 0x20:
            loaded = struct.unpack_from("=I", data, operand)[0]
            continue
        holds = {
            0x15: loaded == operand,
            0x35: loaded >= operand,
            0x45: bool(loaded & operand),
        }[operation]
        at += if_true if holds else if_false


def number_of(machine: str, numbers: tuple[int | None, int | None]) -> int:
    number = numbers[COLUMN[machine]]
    assert number is not None
    return number


@pytest.mark.parametrize("machine", MACHINES)
def test_each_call_of_the_list_is_refused_and_no_other(machine: str) -> None:
    listed = {numbers[COLUMN[machine]] for numbers in seccomp.REFUSED.values()}
    refused = {n for n in range(1000) if verdict(machine, n, 1) == errno.EPERM}
    assert refused == listed - {None}


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_abi_are_refused_whatever_they_are(machine: str) -> None:
    for abi in (0x40000003, 0x40000028, 0, 0xFFFFFFFF):  # i386, arm
        assert {verdict(machine, n, abi=abi) for n in range(500)} == {errno.EPERM}


def test_calls_of_the_x32_abi_are_refused() -> None:
    assert {verdict("x86_64", 0x40000000 | n) for n in range(600)} == {errno.EPERM}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_fork_passes_and_a_namespace_does_not(machine: str) -> None:
    clone, unshare = (number_of(machine, n) for n in (seccomp._CLONE, seccomp._UNSHARE))
    assert verdict(machine, clone, FORK) == ALLOWED
    assert verdict(machine, unshare, 0x200 | 0x400) == ALLOWED  # of directory and descriptors
    for flag in FLAGS.values():
        assert verdict(machine, clone, FORK | flag) == errno.EPERM
        assert verdict(machine, unshare, flag) == errno.EPERM
        # The kernel looks at the lower half only, and so must we.
        assert verdict(machine, clone, FORK | flag | 1 << 40) == errno.EPERM
    assert verdict(machine, unshare, 0x80) == errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_the_c_library_is_told_to_do_without_what_cannot_be_looked_into(machine: str) -> None:
    assert verdict(machine, number_of(machine, seccomp._CLONE3)) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_of_the_usual_families(machine: str) -> None:
    for call in (seccomp._SOCKET, seccomp._SOCKETPAIR):
        number = number_of(machine, call)
        seen = {family: verdict(machine, number, family) for family in range(64)}
        assert {family for family in seen if seen[family] == ALLOWED} == {1, 2, 10, 16}
        assert set(seen.values()) == {ALLOWED, errno.EAFNOSUPPORT}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"this host has no {header}: install linux-libc-dev")
    told = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", header.read_text()))
    column = COLUMN[machine]
    ours = {name: numbers[column] for name, numbers in seccomp.REFUSED.items()}
    ours |= {
        "clone": seccomp._CLONE[column],
        "clone3": seccomp._CLONE3[column],
        "unshare": seccomp._UNSHARE[column],
        "socket": seccomp._SOCKET[column],
        "socketpair": seccomp._SOCKETPAIR[column],
    }
    known = {name: int(told[name]) for name in ours if name in told}
    assert {name: ours[name] for name in known} == known
    # These came after the headers of some hosts that this runs on.
    assert {n for n, number in ours.items() if number is not None} - set(known) <= {
        "open_tree_attr",
        "open_by_handle_at",
    }


def test_an_architecture_without_numbers_is_an_error() -> None:
    with pytest.raises(OSError, match="sparc"):
        seccomp.program("sparc64")
