"""A lab needs root; who is not, becomes it through sudo."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence

from syndicate.domain.errors import Forbidden
from syndicate.lab.state import STATE_VARIABLE, labs_directory

_CAP_SYS_ADMIN = 21
_CAP_NET_ADMIN = 12


def become_root(arguments: Sequence[str], say: Callable[[str], None]) -> None:
    """Return as root, or run the same command through sudo in our place.

    :param arguments: of ``syndicate``.
    :raises Forbidden: we are not root, or lack its rights, and there is no sudo.
    """
    if os.geteuid() == 0:
        if not may_make_networks():
            raise Forbidden(
                "A lab needs the rights to make network namespaces and mounts, and this root, in"
                " some container perhaps, has them not. Give the container CAP_SYS_ADMIN and"
                " CAP_NET_ADMIN (docker run --privileged), or use a virtual machine."
            )
        return
    sudo = shutil.which("sudo")
    if sudo is None:
        raise Forbidden(
            "A lab needs root, for network namespaces and chroots, and there is no sudo."
            f" Run the command as root: su -c {shlex.quote(shlex.join(['syndicate', *arguments]))}"
        )
    say("A lab needs root; asking sudo.")
    # Its files stay where the user's own commands look for them.
    kept = f"{STATE_VARIABLE}={labs_directory()}"
    command = [sys.executable, "-m", "syndicate.cli", *arguments]
    os.execv(sudo, [sudo, "--", "env", kept, f"PATH={os.environ.get('PATH', '')}", *command])


def may_make_networks() -> bool:
    """Whether we have the rights of root that a lab needs."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    return all(effective >> number & 1 for number in (_CAP_SYS_ADMIN, _CAP_NET_ADMIN))
