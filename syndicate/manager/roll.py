"""All volunteers that are known: those that have joined this manager, and those that may yet."""

from __future__ import annotations

import attrs

from syndicate.domain.volunteer import Facts, Volunteer, VolunteerState
from syndicate.manager.fleet import Fleet
from syndicate.manager.hygiene import Hygiene
from syndicate.manager.trust import Trust

#: What is known of a host before its volunteer has said hello.
NOTHING_KNOWN = Facts("", 0, 0, "", "", "")


@attrs.frozen
class Roll:
    """Calls all volunteers by their names.

    The fleet has those that this manager has heard of. Others, which joined an earlier one and have
    not come back, are known by their certificates and by what is held against them. They are shown,
    and are in no plan.
    """

    _fleet: Fleet
    _hygiene: Hygiene
    _trust: Trust

    def all(self) -> list[Volunteer]:
        """All of them, by name."""
        found = {name: member.view() for name, member in self._fleet.members.items()}
        known = {each.name for each in self._trust.enrolled() if each.revoked_at is None}
        for name in known.union(self._hygiene.names()) - found.keys():
            found[name] = self._absent(name)
        return [found[name] for name in sorted(found)]

    def get(self, name: str) -> Volunteer:
        """The volunteer of that name, whether it is there or not."""
        member = self._fleet.members.get(name)
        return self._absent(name) if member is None else member.view()

    def _absent(self, name: str) -> Volunteer:
        known = next((each for each in self._trust.enrolled() if each.name == name), None)
        why = "Has not joined since the manager was started"
        if known is not None and known.revoked_at is not None:
            why = f"Its certificate was revoked by {known.revoked_by}"
        elif known is not None and known.address:
            why += f"; it got its certificate at {known.address}"
        reason = f"{why}. {self._hygiene.why(name)}".strip()
        return Volunteer(name, NOTHING_KNOWN, VolunteerState.GONE, reason=reason)
