"""Becoming the job's user for good."""

from __future__ import annotations

import os
import resource

from syndicate.sandbox.confine import seccomp, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syndicate.sandbox.orders import Identity, Walls


def enter_user_namespace(uid: int) -> None:
    """Get the rights to mount and to change root, in a namespace where we are ``uid``.

    :raises OSError: where user namespaces are not allowed.
    """
    user, group = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {user} 1"),
        ("gid_map", f"{uid} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def set_limits(rlimits: dict[str, int]) -> None:
    """Set resource limits; one that may not be raised stays at what the host allows."""
    for name, wanted in rlimits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        try:
            # Over the lower limit of processor time comes SIGXCPU, which tells what it was.
            spare = 5 if name == "CPU" else 0
            resource.setrlimit(which, (wanted, wanted + spare))
        except (ValueError, PermissionError):
            highest = resource.getrlimit(which)[1]
            resource.setrlimit(which, (highest, highest))


def drop(identity: Identity) -> None:
    """Become the user, with no group, capability or way to get any, and nothing to be read by
    other processes of that user. The parent-death signal is set again, as it was lost.
    """
    if identity["mode"] != "same":
        for capability in range(64):
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
            except OSError:  # past the last one this kernel knows
                break
    uid = identity["uid"]
    if identity["mode"] == "root":
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    syscalls.clear_capabilities()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.die_with_parent()


def wall_in(walls: Walls) -> None:
    """Keep what runs as the job from parts of the kernel that it does not need. We must be the
    job's user by now, and need none of these parts any more ourselves.
    """
    if walls["scope"]:
        syscalls.scope()
    if walls["seccomp"]:
        seccomp.refuse_calls()
