"""Tokens and certificates over the API."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from syndicate.api.exchange import body_of
from syndicate.credentials.interface import ROLES, Enrolled, Token
from syndicate.domain.errors import Forbidden, Invalid
from syndicate.manager.service import Manager
from syndicate.manager.trust import Joiner
from syndicate.manager.user import User
from syndicate.manager.views import timestamp


@attrs.frozen
class TrustRoutes:
    """The routes of tokens and certificates."""

    _clock: IReactorTime
    _manager: Manager

    async def tokens(self, request: Request, user: User) -> Any:
        """``GET /v1/tokens``."""
        _staff(user, "see tokens")
        now = self._clock.seconds()
        return {"tokens": [token_view(each, now) for each in self._manager.tokens.known()]}

    async def new_token(self, request: Request, user: User) -> Any:
        """``POST /v1/tokens``: its secret is told this once."""
        _staff(user, "make tokens")
        body = body_of(request)
        unknown = set(body) - {"role", "user", "expires_in", "host"}
        if unknown:
            raise Invalid(f"A token has no key {min(unknown)!r}.")
        role, host, expires_in = body.get("role"), body.get("host") or "", body.get("expires_in")
        if role not in ROLES:
            raise Invalid(f"{role!r} is no role; roles are {', '.join(ROLES)}.")
        if role == "operator" and user.role != "operator":
            raise Forbidden("Only operators make tokens for operators.")
        if not isinstance(host, str):
            raise Invalid(f"{host!r} is no name of a volunteer.")
        name = _name(body.get("user") or host)
        if expires_in is not None and (
            type(expires_in) not in (int, float) or not 0 < expires_in < 1e10
        ):
            raise Invalid(f"A token is good for more than 0 seconds, not for {expires_in!r}.")
        expires_at = None if expires_in is None else self._clock.seconds() + expires_in
        secret, token = await self._manager.trust.new_token(role, name, expires_at, host)
        request.setResponseCode(201)
        return {"secret": secret, **token_view(token, self._clock.seconds())}

    async def revoke_token(self, request: Request, user: User, token: str) -> Any:
        """``POST /v1/tokens/<id>/revoke``."""
        _staff(user, "revoke tokens")
        if self._manager.trust.token(token).role == "operator" and user.role != "operator":
            raise Forbidden("Only operators revoke tokens of operators.")
        revoked = await self._manager.trust.revoke_token(token, user.name)
        return {"token": token_view(revoked, self._clock.seconds())}

    async def certificates(self, request: Request, user: User) -> Any:
        """``GET /v1/certificates``."""
        _staff(user, "see certificates")
        now = self._clock.seconds()
        known = self._manager.trust.enrolled()
        return {"certificates": [certificate_view(each, now) for each in known]}

    async def enrol(self, request: Request, joiner: Joiner) -> Any:
        """``POST /v1/certificates``: a volunteer asks for one, or for a newer one."""
        body = body_of(request)
        certificate, until = await self._manager.trust.enrol(
            body.get("name"), body.get("request"), joiner
        )
        request.setResponseCode(201)
        return {"certificate": certificate, "expires_at": timestamp(until)}

    async def revoke_certificate(self, request: Request, user: User, volunteer: str) -> Any:
        """``POST /v1/certificates/<volunteer>/revoke``: let it in no more, and drop its link."""
        if user.role != "operator":
            raise Forbidden("Only operators revoke certificates.")
        revoked = await self._manager.trust.revoke_volunteer(volunteer, user.name)
        self._manager.fleet.expel(volunteer)
        return {"certificate": certificate_view(revoked, self._clock.seconds())}


def token_view(token: Token, now: float) -> dict[str, Any]:
    """A token as the API shows it."""
    return {
        "id": token.id,
        "role": token.role,
        "user": token.user,
        "host": token.host or None,
        "state": token.state(now),
        "created_at": timestamp(token.created_at),
        "expires_at": timestamp(token.expires_at),
        "revoked_at": timestamp(token.revoked_at),
        "revoked_by": token.revoked_by or None,
    }


def certificate_view(known: Enrolled, now: float) -> dict[str, Any]:
    """A volunteer's certificate as the API shows it."""
    return {
        "volunteer": known.name,
        "serial": known.serials[0],
        "state": known.state(now),
        "address": known.address,
        "issued_at": timestamp(known.issued_at),
        "expires_at": timestamp(known.expires_at),
        "revoked_at": timestamp(known.revoked_at),
        "revoked_by": known.revoked_by or None,
    }


def _staff(user: User, what: str) -> None:
    if not user.staff:
        raise Forbidden(f"Only staff and operators may {what}.")


def _name(user: Any) -> str:
    if not isinstance(user, str) or not user.isprintable() or not 0 < len(user) <= 100:
        raise Invalid(f"{user!r} is no name of a user.")
    if "/" in user:
        raise Invalid(f"{user!r}: a user's name has no slash.")
    return user
