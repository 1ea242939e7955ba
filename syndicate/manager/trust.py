"""Who is let in: tokens of people and join tokens, and the certificates of volunteers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from syndicate.audit.interface import DONE, Actor, Entry, IAudit, Kind
from syndicate.credentials.interface import (
    Enrolled,
    Identity,
    IIssuer,
    ITokens,
    Token,
)
from syndicate.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SyndicateError,
    TooManyLogins,
    Unauthorized,
    Unavailable,
    WrongVersion,
)
from syndicate.manager.attempts import Attempts
from syndicate.manager.journal import Journal
from syndicate.plain import from_plain, to_plain
from syndicate.store.interface import Put

log = Logger()

#: What a volunteer may be called: what fits into a certificate, a log's path and a sentence.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NAMES = "A volunteer's name is of letters, digits, '.', '_' and '-', up to 63."

#: Most names that are kept, and how many certificates of one are good at a time: a volunteer that
#: renews its own shows the old one until it dials again.
MOST_NAMES = 10_000
MOST_CERTIFICATES = 2


@attrs.frozen
class Joiner:
    """Who asks for a certificate: a volunteer with a session, or whoever has a join token."""

    #: The name that it has proved to have, or the only one that its token is for; or empty.
    name: str
    #: Whether it is joined by that name now.
    joined: bool
    #: Id of its token; empty with a session.
    token: str
    address: str


@attrs.define(eq=False)
class Trust:
    """All tokens and certificates, in memory and in the store."""

    _clock: IReactorTime
    _journal: Journal
    tokens: ITokens
    _issuer: IIssuer
    _audit: IAudit
    #: Secrets, and certificates, that were not good, by address. They are counted apart: what a
    #: volunteer uploads with the session of a manager that is gone must not keep it from joining.
    _bad_secrets: Attempts = attrs.field(init=False)
    bad_certificates: Attempts = attrs.field(init=False)
    #: What other versions say, which is logged now and then.
    _other_versions: Attempts = attrs.field(init=False)
    #: Joins by name.
    _hellos: Attempts = attrs.field(init=False)
    #: Certificates that were asked for, by address.
    _joins: Attempts = attrs.field(init=False)
    _enrolled: dict[str, Enrolled] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._bad_secrets = Attempts(self._clock)
        self.bad_certificates = Attempts(self._clock)
        self._other_versions = Attempts(self._clock, most=1, span=600.0)
        self._hellos = Attempts(self._clock, most=60)
        self._joins = Attempts(self._clock, most=60)

    def load(
        self, records: Mapping[tuple[str, str], Any], given: Iterable[tuple[str, str, str]]
    ) -> None:
        """Take over what the store holds.

        :param given: secrets that lie in files, as ``(secret, role, user)``: they are known even
            if the store is new, unless one was revoked.
        """
        self.tokens.add(self.tokens.describe(*each) for each in given)
        for (kind, _), value in records.items():
            if kind == "token":
                self.tokens.add([from_plain(value, Token)])
            elif kind == "certificate":
                known = from_plain(value, Enrolled)
                self._enrolled[known.name] = known

    # Tokens.

    async def new_token(
        self, role: str, user: str, expires_at: float | None, host: str = ""
    ) -> tuple[str, Token]:
        """Make a token; its secret is told this once, and not kept.

        :param expires_at: epoch seconds, or None for never.
        :param host: see `Token.host`.
        """
        if host and (role != "volunteer" or not NAME.fullmatch(host)):
            raise Invalid(_NAMES)
        secret, token = self.tokens.make(role, user, expires_at, host)
        await self._journal.write(Put("token", token.id, to_plain(token)), optional=True)
        self.tokens.add([token])
        return secret, token

    def token(self, id_: str) -> Token:
        """The token of that id.

        :raises NotFound: there is none.
        """
        found = [token for token in self.tokens.known() if token.id == id_]
        if not found:
            raise NotFound(f"There is no token {id_[:40]!r}; see syndicate token list.")
        return found[0]

    async def revoke_token(self, id_: str, by: str) -> Token:
        """Let nobody in with a token any more.

        :raises NotFound: there is none.
        :raises Conflict: it has been revoked before.
        """
        token = self.token(id_)
        if token.revoked_at is not None:
            raise Conflict(f"The token {id_} was revoked by {token.revoked_by} already.")
        revoked = attrs.evolve(token, revoked_at=self._clock.seconds(), revoked_by=by)
        await self._journal.write(Put("token", token.id, to_plain(revoked)), optional=True)
        self.tokens.add([revoked])
        return revoked

    def check_token(self, secret: str, address: str) -> Token:
        """The token of a secret that came from an address.

        :raises Unauthorized: it is not good.
        :raises TooManyLogins: nor were many others from there.
        """
        try:
            return self.tokens.check(secret)
        except Unauthorized as error:
            raise self.failed(address, error) from None

    def failed(self, address: str, error: SyndicateError) -> SyndicateError:
        """Note a secret that was not good, missing, or for another door; what to answer."""
        if self._bad_secrets.count(address):
            log.warn(
                "{address} was not let in: {why} {hint}",
                address=address,
                why=str(error),
                hint=_HINT,
            )
            return error
        wait = self._bad_secrets.wait(address)
        return TooManyLogins(
            f"Too many logins from {address} failed; wait {wait:.0f} s.", retry_after=wait
        )

    # Certificates.

    def enrolled(self) -> tuple[Enrolled, ...]:
        """All volunteers that have been given certificates, by name."""
        return tuple(self._enrolled[name] for name in sorted(self._enrolled))

    def has_joined(self, name: str) -> bool:
        """Whether a volunteer of that name has ever been given a certificate."""
        return name in self._enrolled

    def admit(self, identity: Identity, name: str) -> None:
        """Look whether who shows a certificate of our authority may join by a name.

        :raises Forbidden: the name is another one's.
        :raises Unauthorized: the certificate was revoked, or newer ones have taken its place.
        :raises Unavailable: it joins too often.
        """
        if name not in identity.names:
            mine = ", ".join(sorted(identity.names)[:3])
            raise Forbidden(f"This certificate is that of {mine}; it cannot join as {name[:64]!r}.")
        if not self._hellos.count(name):
            raise Unavailable(f"{name} joins too often; wait {self._hellos.wait(name):.0f} s.")
        known = self._enrolled.get(name)
        # One that is not known was signed before the store was made anew or restored.
        if known is None:
            return
        if known.revoked_at is not None:
            raise Unauthorized(f"{name} was revoked by {known.revoked_by}. {_remedy(name)}")
        if identity.serial not in known.serials:
            raise Unauthorized(
                f"This certificate of {name} was replaced by a newer one. Who shows it asks for "
                "another by itself, with its join token; if two hosts have the same name, give one "
                "of them another ([volunteer] name)."
            )

    async def enrol(self, name: object, request: object, joiner: Joiner) -> tuple[str, float]:
        """Sign a certificate for a volunteer; it is known once it is durable.

        :param request: a signing request in PEM.
        :returns: the certificate in PEM, and when it expires, in epoch seconds.
        :raises Forbidden: the name is not for this one.
        :raises Unavailable: too many were asked for from there.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise Invalid(_NAMES)
        if not isinstance(request, str):
            raise Invalid("A certificate is asked for with a signing request in PEM.")
        if not self._joins.count(joiner.address):
            # Not recorded: there could be so many of these that they push out all others.
            raise Unavailable("Too many certificates were asked for from there; try later.")
        try:
            made, known = await self._enrol(name, request, joiner)
        except SyndicateError as error:
            self._record(joiner, name, error.code, {"message": error.message})
            raise
        self._record(joiner, name, DONE, {"serial": known.serials[0]})
        log.info("{name} has a certificate, asked for from {at}.", name=name, at=joiner.address)
        return made, known.expires_at

    async def _enrol(self, name: str, request: str, joiner: Joiner) -> tuple[str, Enrolled]:
        now = self._clock.seconds()
        self._check_name(name, self._issuer.key_of(request), joiner, now)
        made, known = self._issuer.issue(name, request, now)
        before = self._enrolled.get(name)
        older = before.serials if before is not None and joiner.joined else ()
        serials = (known.serials + older)[:MOST_CERTIFICATES]
        known = attrs.evolve(known, serials=serials, address=joiner.address)
        await self._know(known)
        return made, known

    def _check_name(self, name: str, key: str, joiner: Joiner, now: float) -> None:
        """Whether the name is for this one.

        :raises Forbidden: it is not.
        """
        if joiner.name and joiner.name != name:
            raise Forbidden(f"This one may join as {joiner.name} only, not as {name}.")
        known = self._enrolled.get(name)
        if known is None and len(self._enrolled) >= MOST_NAMES:
            raise Unavailable(f"{MOST_NAMES} volunteers have joined; no more can.")
        if known is None or joiner.name:
            return
        if known.revoked_at is not None:
            raise Forbidden(f"{name} was revoked by {known.revoked_by}. {_remedy(name)}")
        # The same key is the same volunteer, which did not get the answer; the same address is
        # the same host, which has lost its state directory.
        if known.state(now) == "good" and key != known.key and joiner.address != known.address:
            raise Forbidden(
                f"The name {name} is that of a volunteer that joined from {known.address}. "
                "Choose another one ([volunteer] name). If that host has moved and has lost its "
                f"state directory: {_remedy(name)}"
            )

    async def revoke_volunteer(self, name: str, by: str) -> Enrolled:
        """Let a volunteer in no more, and nobody by its name but with a token made for it.

        :raises NotFound: none of that name has joined.
        :raises Conflict: it has been revoked before.
        """
        known = self._enrolled.get(name)
        if known is None:
            raise NotFound(f"No volunteer {name[:64]!r} has a certificate.")
        if known.revoked_at is not None:
            raise Conflict(f"{name} was revoked by {known.revoked_by} already.")
        revoked = attrs.evolve(known, revoked_at=self._clock.seconds(), revoked_by=by)
        await self._know(revoked)
        return revoked

    async def _know(self, known: Enrolled) -> None:
        await self._journal.write(Put("certificate", known.name, to_plain(known)), optional=True)
        self._enrolled[known.name] = known

    def _record(self, joiner: Joiner, name: str, outcome: str, details: Mapping[str, Any]) -> None:
        actor = Actor(Kind.PERSON, name, "volunteer", joiner.token, joiner.address)
        now = self._clock.seconds()
        self._audit.record(Entry(now, actor, "join", f"volunteer {name}", outcome, details))

    def refused(self, address: str, error: SyndicateError) -> None:
        """Note a volunteer that was not let in by its certificate."""
        # One of another version is none that tries to get in, and is to hear why it does not.
        other = isinstance(error, WrongVersion)
        if (self._other_versions if other else self.bad_certificates).count(address):
            log.warn("A volunteer at {at} was not let in: {why}", at=address, why=str(error))
            actor, now = Actor(Kind.STRANGER, address=address), self._clock.seconds()
            self._audit.record(Entry(now, actor, "login", "", error.code, {"message": str(error)}))


#: For whoever reads the manager's log.
_HINT = (
    "If that is a volunteer, copy tokens/join of this manager's state directory to it; if it is "
    "somebody of yours, make a token: syndicate token new."
)


def _remedy(name: str) -> str:
    return (
        "To let that host in again, give it a token of its own: "
        f"syndicate token new --role volunteer --host {name}."
    )
