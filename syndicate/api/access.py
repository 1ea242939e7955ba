"""Who is asking: bearer tokens, and volunteers' sessions."""

from __future__ import annotations

import attrs
from twisted.web.server import Request

from syndicate.audit.interface import Actor, Kind
from syndicate.domain.errors import Forbidden, Unauthorized
from syndicate.manager.service import Manager
from syndicate.manager.trust import Joiner
from syndicate.manager.user import User


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
            error = Forbidden("A volunteer's token only joins volunteers; use a user's.")
            raise self._manager.trust.failed(address, error)
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
            error = Forbidden(f"A token of the role {token.role} cannot join volunteers.")
            raise self._manager.trust.failed(address, error)
        return Joiner(token.host, False, token.id, address)

    def volunteer(self, request: Request) -> str:
        """The name of the volunteer whose session a request shows.

        :raises Unauthorized: no live session.
        """
        name = self._manager.fleet.session_name(self._bearer(request))
        if not name:
            error = Unauthorized("This session is over; join again.")
            raise self._manager.trust.failed(address_of(request), error)
        return name

    def reader(self, request: Request) -> str:
        """Who may have the blob that a request is for: everybody with a person's token; and a
        volunteer what it was told to fetch, or to ask for whether it is here before it brings it.

        :raises Unauthorized: no good token, and no live session.
        :raises Forbidden: a volunteer that was not told so.
        """
        name = self._manager.fleet.session_name(self._bearer(request))
        if not name:
            return self.user(request).name
        sha256 = request.path.rpartition(b"/")[2].decode("ascii", "replace")
        if request.method == b"HEAD":
            self._manager.carriage.check_ask(name)
        else:
            self._manager.carriage.check_fetch(name, sha256, self._manager.site.client_sha256)
        return name

    def bringer(self, request: Request) -> str:
        """Who has brought a blob; whether they might, `sender` has looked at.

        :raises Unauthorized: no good token, and no live session.
        """
        return self._manager.fleet.session_name(self._bearer(request)) or self.user(request).name

    def sender(self, request: Request) -> tuple[str, bool]:
        """The name of a user, or of a volunteer that has outputs to bring; and whether it is a
        volunteer's.

        :raises Unauthorized: no good token, and no live session.
        :raises Forbidden: a volunteer that has no part in hand.
        """
        name = self._manager.fleet.session_name(self._bearer(request))
        if not name:
            return self.user(request).name, False
        self._manager.carriage.check_ask(name)
        return name, True

    def check_known(self, request: Request) -> None:
        """Look whether anybody whom we know sends a request, before its body is kept.

        :raises Unauthorized: no good token, and no live session.
        """
        secret = self._bearer(request)
        if not self._manager.fleet.session_name(secret):
            self._manager.trust.check_token(secret, address_of(request))

    async def admit(
        self, request: Request, who: str, sha256: str, size: int, *, volunteer: bool
    ) -> None:
        """Let somebody send a file with this request, or raise why not."""
        if volunteer:
            self._manager.carriage.check_bring(who, sha256, size)
        ended = await self._manager.uploads.begin(who, size, volunteer=volunteer)
        request.notifyFinish().addBoth(lambda _: ended())

    def actor(self, request: Request) -> Actor:
        """Whose a request is that was refused: a volunteer's with a session, a person's with a
        good token, else a stranger's. A join token is many volunteers', and tells of none.
        """
        address = address_of(request)
        try:
            secret = bearer(request)
            if name := self._manager.fleet.session_name(secret):
                return Actor(Kind.PERSON, name, "volunteer", address=address)
            token = self._manager.tokens.check(secret)
        except Unauthorized:
            return Actor(Kind.STRANGER, address=address)
        if token.role == "volunteer":
            return Actor(Kind.STRANGER, address=address)
        return Actor(Kind.PERSON, token.user, token.role, token.id, address)

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
