"""Volunteers, and what operators say of them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.web.server import Request

from syndicate.api.exchange import body_of, data_of
from syndicate.domain.errors import Invalid
from syndicate.manager.service import Manager
from syndicate.manager.user import User
from syndicate.manager.views import volunteer_view


@attrs.frozen
class Volunteers:
    """The routes of volunteers."""

    _manager: Manager

    async def volunteers(self, request: Request, user: User) -> Any:
        """``GET /v1/volunteers``."""
        return {"volunteers": [volunteer_view(each) for each in self._manager.roll.all()]}

    async def drain(self, request: Request, user: User, volunteer: str) -> Any:
        """``POST /v1/volunteers/<name>/drain``."""
        await self._manager.hygiene.drain(user.name, user.role, volunteer, _reason(request))
        return self._view(volunteer)

    async def quarantine(self, request: Request, user: User, volunteer: str) -> Any:
        """``POST /v1/volunteers/<name>/quarantine``."""
        await self._manager.hygiene.quarantine(user.name, user.role, volunteer, _reason(request))
        return self._view(volunteer)

    async def resume(self, request: Request, user: User, volunteer: str) -> Any:
        """``POST /v1/volunteers/<name>/resume``."""
        await self._manager.hygiene.resume(user.name, user.role, volunteer)
        return self._view(volunteer)

    def _view(self, name: str) -> Any:
        return {"volunteer": volunteer_view(self._manager.roll.get(name))}


def _reason(request: Request) -> str:
    body = body_of(request) if data_of(request) else {}
    if unknown := set(body) - {"reason"}:
        raise Invalid(f"This has no key {min(unknown)!r}; it has 'reason'.")
    reason: str = body.get("reason", "")
    return reason
