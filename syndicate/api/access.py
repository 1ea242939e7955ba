"""Who is asking: bearer tokens, and volunteers' sessions."""

from __future__ import annotations

import attrs
from twisted.web.server import Request

from syndicate.domain.errors import Forbidden, Unauthorized
from syndicate.manager.service import Manager, User
from syndicate.manager.trust import Joiner


@attrs.frozen
class Access:
    """Lets requests in."""

    _manager: Manager

    def user(self, request: Request) -> User:
        """The person (or script) behind a request.

        :raises Unauthorized: no good token.
        :raises Forbidden: a volunteer's token.
        """
        secret, address = self._bearer(request), address_of(request)
        token = self._manager.trust.check_token(secret, address)
        if token.role == "volunteer":
            raise Forbidden("A volunteer's token only joins volunteers; use a user's.")
        return User(token.user, token.role, token.id, address)

    def joiner(self, request: Request) -> Joiner:
        """Who asks for a volunteer's certificate: with a session, or a join token.

        :raises Unauthorized: neither is good.
        :raises Forbidden: a person's token.
        """
        secret, address = self._bearer(request), address_of(request)
        if name := self._manager.fleet.session_name(secret):
            return Joiner(name, True, "", address)
        token = self._manager.trust.check_token(secret, address)
        if token.role != "volunteer":
            raise Forbidden(f"A token of the role {token.role} cannot join volunteers.")
        return Joiner(token.host, False, token.id, address)

    def volunteer(self, request: Request) -> str:
        """The name of the volunteer whose session a request shows.

        :raises Unauthorized: no live session.
        """
        return self._manager.fleet.session(self._bearer(request)).name

    def anybody(self, request: Request) -> str:
        """The name of a user, or of a volunteer with a live session.

        :raises Unauthorized: neither.
        """
        return self._manager.fleet.session_name(self._bearer(request)) or self.user(request).name

    def sender(self, request: Request) -> tuple[str, bool]:
        """The name of a user or volunteer as for `anybody`, and whether it is a volunteer's."""
        name = self._manager.fleet.session_name(self._bearer(request))
        return (name, True) if name else (self.user(request).name, False)

    def admit(self, request: Request, who: str, size: int, *, volunteer: bool) -> None:
        """Let somebody send a file with this request, or raise why not."""
        ended = self._manager.uploads.begin(who, size, volunteer=volunteer)
        request.notifyFinish().addBoth(lambda _: ended())

    def _bearer(self, request: Request) -> str:
        try:
            return bearer(request)
        except Unauthorized as error:
            raise self._manager.trust.failed(address_of(request), error) from None


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return str(getattr(request.getClientAddress(), "host", ""))


def bearer(request: Request) -> str:
    """The secret that a request shows.

    :raises Unauthorized: it shows none.
    """
    kind, _, secret = (request.getHeader("authorization") or "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise Unauthorized(
            "This needs a token; set SYNDICATE_TOKEN, or send 'Authorization: Bearer …'."
        )
    return secret.strip()
