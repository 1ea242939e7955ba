"""Carries out faults that are written down, and writes down what has changed with them."""

from __future__ import annotations

import attrs

from syndicate.domain.errors import AlreadyRunning
from syndicate.domain.events import MachineKilled, MachineRevived
from syndicate.domain.fault import Fault, FaultState, Kind, undoes
from syndicate.domain.job import Job, MachineState
from syndicate.manager.conductor import Conductor
from syndicate.manager.fault_orders import FaultOrders
from syndicate.manager.leases import Leases
from syndicate.manager.ledger import Ledger
from syndicate.wire.interface import FaultOrder


@attrs.define(eq=False)
class Inflicting:
    """Sends what each fault takes. Whoever calls this sees to it that one is done at a time, in a
    job to its links, and to each machine.
    """

    _ledger: Ledger
    _conductor: Conductor
    _orders: FaultOrders
    _leases: Leases

    async def on_machine(self, job: Job, fault: Fault) -> Fault:
        """Kill, revive, pause or resume one machine.

        :raises AlreadyRunning: it is to be revived, and runs.
        """
        (name,) = fault.machines
        order = FaultOrder(
            self._orders.part(job, name),
            fault.number,
            fault.kind.value,
            with_disk=fault.with_disk,
            lease=fault.lease,
        )
        try:
            fault, _ = await self._orders.carry_out(job, fault, {name: order})
        except AlreadyRunning:
            # The lease of a kill was over, and its volunteer was faster than we.
            if self._orders.machine(job, name).state is not MachineState.RUNNING:
                self._conductor.happen(job.number, MachineRevived(name))
            raise
        self._tell_machine(job, fault, name)
        self.undo(job, fault)
        self._leases.keep(job, fault)
        return fault

    def _tell_machine(self, job: Job, fault: Fault, name: str) -> None:
        """The machine's own events of a kill or a revival, unless its volunteer was faster. Nobody
        waits until they are durable: the fault is, and it says the same.
        """
        machine = self._orders.machine(job, name)
        if fault.kind is Kind.KILL and machine.state is MachineState.RUNNING:
            self._conductor.happen(
                job.number, MachineKilled(name, by=fault.by, by_fault=f"f{fault.number}")
            )
        if fault.kind is Kind.REVIVE and machine.state is not MachineState.RUNNING:
            self._conductor.happen(job.number, MachineRevived(name, fault.with_disk))

    async def on_links(self, job: Job, fault: Fault) -> Fault:
        """Bring every machine's links to what is in force with this fault."""
        in_force = self._ledger.in_force(job)
        if fault.kind is Kind.RECONNECT:
            in_force = [f for f in in_force if not undoes(fault, f)]
        orders = self._orders.of_links(job, fault.number, in_force, frozenset())
        try:
            fault, away = await self._orders.carry_out(job, fault, orders)
            if away:
                # The others refuse what comes from those that cannot be told.
                again = self._orders.of_links(job, fault.number, in_force, away, again=True)
                fault, _ = await self._orders.carry_out(job, fault, again)
        finally:
            self.undo(job, fault)
        self._leases.keep(job, fault)
        return fault

    async def heal(self, job: Job, marker: Fault) -> None:
        """Bring every machine's links to what is in force without the fault that is healed."""
        rest = [f for f in self._ledger.in_force(job) if f.number != marker.undoes]
        orders = self._orders.of_links(job, marker.number, rest, frozenset())
        marker, _ = await self._orders.carry_out(job, marker, orders)
        self.undo(job, marker)

    def undo(self, job: Job, fault: Fault) -> None:
        """Write down which faults this one has ended."""
        if fault.state is not FaultState.VERIFIED or fault.applied_at is None:
            return
        for other in self._ledger.in_force(job):
            if undoes(fault, other):
                self.end(job.number, other, fault.applied_at, f"by f{fault.number}")

    def end(self, number: int, fault: Fault, at: float, note: str) -> None:
        """Write down that a fault of a job is no longer in force, and since when.

        :param note: what has ended it.
        """
        self._ledger.end(number, fault, at, note)
        self._leases.drop(number, fault)
