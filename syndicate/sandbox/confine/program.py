"""The launcher's main function: confine ourselves to the daemon's life, take one order, do it."""

from __future__ import annotations

import marshal
import os
import sys

from syndicate.sandbox.confine import channel, privileges, runner, syscalls
from syndicate.sandbox.confine.tree import Tree
from syndicate.sandbox.tar import Refused, preload, read_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from syndicate.sandbox.orders import CollectOrder, Order, ReadOrder


def main() -> NoReturn:
    """Wait for the order and do it. Never returns."""
    syscalls.die_with_parent()
    if os.getppid() != int(sys.argv[1]):  # the daemon died before it could take us along
        os._exit(0)
    os.set_inheritable(channel.CHANNEL, False)
    os.chdir("/")
    try:
        for group in sys.argv[2:]:
            runner.write(f"{group}/cgroup.procs", "0")
        order = _order()
        if order is None:  # the daemon does not need us any more
            os._exit(0)
        _carry_out(order)
    except Refused as refusal:
        channel.say("refused", refusal)
    except MemoryError:
        channel.say("refused", "It takes too much memory to unpack.")
    except BaseException as error:  # noqa: BLE001  (the edge of the process: all is reported)
        channel.say_failed(error)
        os._exit(runner.SETUP_FAILED)
    os._exit(0)


def _order() -> Order | None:
    """Read the order to the end of standard input, then put nothing in its place."""
    parts = []
    while part := os.read(0, 1 << 16):
        parts.append(part)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    order: Order | None = marshal.loads(b"".join(parts)) if parts else None
    return order


def _carry_out(order: Order) -> None:
    if order["action"] == "run":
        runner.run(order)
    elif order["action"] == "collect":
        _collect(order)
    elif order["action"] == "look":
        from syndicate.sandbox.confine.looking import look  # not needed by a run

        channel.say("done", look(order["place"]))
    else:
        _read(order)


def _collect(order: CollectOrder) -> None:
    from syndicate.sandbox.confine.collector import collect  # not needed by a run

    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    target = os.open(order["destination"], flags, 0o600)
    work = collect(target, order["patterns"], order["limit"])
    runner.enclose(order, work)


def _read(order: ReadOrder) -> None:
    """Read a tarball as the job's user, shut into a directory where there is nothing else."""
    source = os.open(order["source"], os.O_RDONLY)
    preload(source)
    if order["identity"]["mode"] == "user":
        privileges.enter_user_namespace(order["identity"]["uid"])
    if order["identity"]["mode"] != "same":
        os.chroot(order["directory"])
        os.chdir("/")
    limits = {"CORE": 0, "NOFILE": 64, "CPU": order["cpu"], "AS": order["memory"]}
    limits["FSIZE"] = order["rules"]["unpacked"]
    privileges.set_limits(limits)
    privileges.drop(order["identity"])
    privileges.set_limits({"NPROC": 0})
    os.umask(0)
    facts = read_source(source, order["rules"], Tree() if order["action"] == "unpack" else None)
    channel.say("done", facts.members, facts.unpacked, len(facts.makefile), data=facts.makefile)
