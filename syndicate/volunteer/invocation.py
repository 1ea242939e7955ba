"""How a machine's target is called: names, command line and environment, as its order has them."""

from __future__ import annotations

from syndicate.wire.interface import Part, PrepareOrder

#: Where a client finds its door in its sandbox.
INSIDE = "/run/syndicate"


def key_of(part: Part) -> str:
    """A part as files and the like are called that belong to it alone: ``17.2.slave-0``."""
    machine = part.machine.replace("[", "-").replace("]", "")
    return f"{part.job}.{part.attempt}.{machine}"


def host_name(machine: str) -> str:
    """``slave[0]`` as a host may be called: ``slave0``."""
    return machine.replace("[", "").replace("]", "")


def hosts(order: PrepareOrder) -> tuple[tuple[str, str], ...]:
    """Names and addresses of the job's machines for ``/etc/hosts``: the machine's own first."""
    mine = order.part.machine
    ordered = sorted(order.machines, key=lambda machine: machine[0] != mine)
    return tuple((host_name(name), address) for name, address in ordered)


def command_line(order: PrepareOrder) -> list[str]:
    """``make master``, ``make MASTER=<ip> slave``, or with ``SLAVES=<ip>,…``, ``client``."""
    if order.part.machine == "master":
        return ["make", order.target]
    master = f"MASTER={order.machines[0][1]}"
    if not order.client:
        return ["make", master, order.target]
    slaves = ",".join(a for name, a in order.machines if name.startswith("slave"))
    return ["make", master, f"SLAVES={slaves}", order.target]


def environment(order: PrepareOrder) -> dict[str, str]:
    """The variables that the target finds beside those of every sandbox."""
    client = {
        "PATH": f"{INSIDE}/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{INSIDE}/lib",
        "SYNDICATE_SOCKET": f"{INSIDE}/http",
    }
    return {
        **dict(order.env),
        **(client if order.client else {}),
        "SYNDICATE_JOB": str(order.part.job),
        "SYNDICATE_ATTEMPT": str(order.part.attempt),
        "SYNDICATE_MACHINE": order.part.machine,
        "SYNDICATE_ADDRESS": dict(order.machines)[order.part.machine],
        "SYNDICATE_MACHINES": str(sum(not name.startswith("client") for name, _ in order.machines)),
        "SYNDICATE_SEED": str(order.seed),
    }
