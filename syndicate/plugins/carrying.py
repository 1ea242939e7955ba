"""Carries over what was revoked since a backup was made, from the state that it is to replace.

A backup knows who was let in when it was made. Whoever was shut out since would be let in again by
restoring it; so the records of tokens and certificates are compared with those of the state that is
moved aside, and the later ones count. Where its database cannot be read, which may be why somebody
restores, its audit log tells what was revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from syndicate.audit.interface import DONE, Entry, Kind
from syndicate.audit.lines import from_line
from syndicate.credentials.interface import Enrolled, Token
from syndicate.credentials.tokens import hash_secret
from syndicate.domain.errors import SyndicateError
from syndicate.plain import from_plain, to_plain
from syndicate.plugins.founding import FIRST_TOKENS
from syndicate.store.copying import put_records, records
from syndicate.store.schema import DATABASE

_AUTHORITY = Path("authority/ca.pem")


@attrs.frozen
class Carried:
    """What was carried over."""

    #: Ids of tokens, and names of volunteers, that the backup took for good.
    tokens: tuple[str, ...] = ()
    volunteers: tuple[str, ...] = ()
    #: What an operator has to be told of how it was found out; empty if nothing.
    remark: str = ""


@attrs.define
class _Trust:
    """Tokens and certificates, by id and by name."""

    tokens: dict[str, Token] = attrs.field(factory=dict)
    volunteers: dict[str, Enrolled] = attrs.field(factory=dict)

    @classmethod
    def of(cls, state: Path) -> _Trust:
        """Those of a state directory.

        :raises SyndicateError: its database cannot be read.
        """
        found = cls()
        for kind, _, value in records(state / DATABASE, ("token", "certificate")):
            if kind == "token":
                token = from_plain(value, Token)
                found.tokens[token.id] = token
            else:
                known = from_plain(value, Enrolled)
                found.volunteers[known.name] = known
        return found


def carry_over(old: Path, draft: Path) -> Carried:
    """Bring revocations from a state that is to be replaced into what is to replace it.

    :param old: a state directory that nobody has in use; nothing of it is changed.
    """
    if not (old / _AUTHORITY).exists() and not (old / DATABASE).exists():
        return Carried(remark="There is no state to find out from what was revoked since then.")
    if _read(old / _AUTHORITY) != _read(draft / _AUTHORITY):
        return Carried(
            remark=f"{old} was the state of another cluster, or its authority was made anew; "
            "nothing of what was revoked there was taken over."
        )
    before = _Trust.of(draft)
    try:
        later, remark = _Trust.of(old), ""
    except (SyndicateError, ValueError, KeyError, TypeError) as error:
        later, problem = _from_audit(old, draft, before)
        remark = f"The former database cannot be read ({error}). {problem}"
    return attrs.evolve(_put(draft, before, later), remark=remark)


def _put(draft: Path, before: _Trust, later: _Trust) -> Carried:
    """Write what is later than before; a token that was revoked stays so in any case."""
    revoked = [
        token
        for id_, token in later.tokens.items()
        if token.revoked_at is not None
        and ((known := before.tokens.get(id_)) is None or known.revoked_at is None)
    ]
    changed = [
        known
        for name, known in later.volunteers.items()
        if name not in before.volunteers or _at(known) > _at(before.volunteers[name])
    ]
    put_records(
        draft / DATABASE,
        [
            *(("token", token.id, to_plain(token)) for token in revoked),
            *(("certificate", known.name, to_plain(known)) for known in changed),
        ],
    )
    shut_out = sorted(known.name for known in changed if known.revoked_at is not None)
    return Carried(tuple(sorted(token.id for token in revoked)), tuple(shut_out))


def _at(known: Enrolled) -> float:
    return max(known.issued_at, known.revoked_at or 0.0)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


# What the audit log tells.


def _from_audit(old: Path, draft: Path, before: _Trust) -> tuple[_Trust, str]:
    """What was revoked by what was written down of it; and what to say of that."""
    told = sorted(_entries(old / "audit"), key=lambda entry: entry.at)
    if not told:
        return _Trust(), "Nor is there an audit log that tells what was revoked."
    known = {**_in_files(draft / "tokens"), **before.tokens}
    found = _Trust()
    for entry in told:
        what, _, name = entry.on.partition(" ")
        if (entry.did, what) == ("revoke token", "token") and name in known:
            by = entry.actor.name
            found.tokens[name] = attrs.evolve(known[name], revoked_at=entry.at, revoked_by=by)
        elif (entry.did, what) == ("revoke certificate", "volunteer"):
            found.volunteers[name] = _revoked(name, entry, before.volunteers)
        elif (entry.did, what) == ("join", "volunteer"):
            found.volunteers.pop(name, None)  # it was let in again
    return found, "What was revoked was found out from its audit log; look whether that is all."


def _revoked(name: str, entry: Entry, before: Mapping[str, Enrolled]) -> Enrolled:
    # No certificate has such a serial; and the name is for nobody without a token of its own.
    unknown = Enrolled(name, ("unknown",), "", entry.at, entry.at)
    known = before.get(name, unknown)
    return attrs.evolve(known, revoked_at=entry.at, revoked_by=entry.actor.name)


def _entries(audit: Path) -> list[Entry]:
    found = []
    for path in audit.glob(f"{Kind.PERSON.value}.jsonl*"):
        lines = (_read(path) or b"").splitlines()
        found += [entry for line in lines if (entry := from_line(line)) is not None]
    return [entry for entry in found if entry.outcome == DONE]


def _in_files(tokens: Path) -> dict[str, Token]:
    """The tokens that the manager makes at its first start, of which it keeps no record."""
    found: dict[str, Token] = {}
    for name, role, user in FIRST_TOKENS:
        secret = (_read(tokens / name) or b"").decode("ascii", "replace").strip()
        if secret:
            digest = hash_secret(secret)
            found[digest[:12]] = Token(digest[:12], role, user, digest, 0.0)
    return found
