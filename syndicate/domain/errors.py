"""The one tree of errors that Syndicate raises on purpose.

Every error has a stable ``code`` (it crosses the wire and the JSON API, and scripts may rely on
it), an HTTP ``status`` that says whose fault it is, and a message of one or two sentences: what
happened, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SyndicateError(Exception):
    """The root of the tree.

    :param message: what happened, where, and what the reader can do.
    :param details: plain values for programs (strings, numbers, lists, dicts).
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    def __str__(self) -> str:
        return self.message


class Invalid(SyndicateError):
    """Input that cannot be taken as it stands; nothing was changed. Correct it and send again."""

    code = "invalid"
    status = 400


class InvalidJob(Invalid):
    """A job file or job options with mistakes; ``details["problems"]`` lists them all."""

    code = "invalid_job"


class InvalidSource(Invalid):
    """A source tarball that will not be unpacked or lacks what a job needs."""

    code = "invalid_source"


class TooLarge(Invalid):
    """Something over a size limit of the site."""

    code = "too_large"
    status = 413


class Unauthorized(SyndicateError):
    """No credential, or one that is wrong or expired. Check the token and its expiry."""

    code = "unauthorized"
    status = 401


class TooManyLogins(Unauthorized):
    """Credentials that are not good came too often from one address; wait a minute. Good ones are
    taken all the same.
    """

    code = "too_many_logins"
    status = 429


class Forbidden(SyndicateError):
    """A good credential whose role may not do this."""

    code = "forbidden"
    status = 403


class NotFound(SyndicateError):
    """No such job, machine, volunteer, blob or file."""

    code = "not_found"
    status = 404


class NotYours(NotFound):
    """A client named a machine that is not of its own attempt, or none at all: which of both is
    never told.
    """

    code = "not_yours"


class Revoked(Forbidden):
    """A client's handle that is no longer good: the attempt is over, the client has finished, or
    staff has revoked it.
    """

    code = "revoked"


class Conflict(SyndicateError):
    """What was asked does not fit the present state; look at it again."""

    code = "conflict"
    status = 409


class AlreadyRunning(Conflict):
    """A machine that was to be revived runs."""

    code = "already_running"


class Unsupported(SyndicateError):
    """A fault that a volunteer of the job cannot do; the message says why."""

    code = "unsupported"
    status = 422


class IllegalEvent(Conflict):
    """An event that a job in its present state cannot have: a defect, never a user's mistake."""

    code = "illegal_event"


class WouldWait(Conflict):
    """A job submitted with ``no_wait`` that could not start at once."""

    code = "would_wait"


class Unavailable(SyndicateError):
    """Not now: the service starts, stops, or cannot write. Try again later."""

    code = "unavailable"
    status = 503


class StorageFull(Unavailable):
    """No room left on a disk of the manager or a volunteer; free some and try again."""

    code = "storage_full"
    status = 507


class TooMany(Unavailable):
    """One user, one client, or all together, have as many of something at once, or ask as often, as
    the site or the job allows; the message says of what. Try again when there are fewer, or after
    ``details["retry_after"]`` seconds.
    """

    code = "too_many"
    status = 429


class StorageReadOnly(Unavailable):
    """A disk of the manager or a volunteer takes no writes; look at it. What waits for it goes on
    by itself.
    """

    code = "storage_read_only"
    status = 503


class Timeout(SyndicateError):
    """An answer that did not come within its deadline."""

    code = "timeout"
    status = 504


class Unknown(SyndicateError):
    """Whether it was done is not known: the answer was lost on its way, with the manager or with a
    volunteer. ``details["fault"]`` is what to ask by later: the fault's id, or the call's own key.
    """

    code = "unknown"
    status = 504


class WrongVersion(SyndicateError):
    """Two parts of Syndicate that speak different protocol versions; upgrade the older one."""

    code = "wrong_version"
    status = 409


class Fenced(SyndicateError):
    """A write of a manager whose term is over; it must stop."""

    code = "fenced"


class Exists(Conflict):
    """A record that was to be created is there already; ``details["kind"]`` and ``["key"]``."""

    code = "exists"


class Corrupt(SyndicateError):
    """Stored data that is not what was written; restore it from a copy."""

    code = "corrupt"


class StateDirectoryInUse(SyndicateError):
    """Another process holds the state directory; stop it or use another directory."""

    code = "state_directory_in_use"


class SandboxFailed(SyndicateError):
    """The sandbox could not be made: a fault of the volunteer's host, not of the job."""

    code = "sandbox_failed"


class NotClean(SyndicateError):
    """A volunteer could not remove what a job left behind; it must not take another job."""

    code = "not_clean"


class VolunteerLost(SyndicateError):
    """The link to a volunteer broke, or it stopped answering."""

    code = "volunteer_lost"


class Internal(SyndicateError):
    """A defect at the other end; ``details["incident"]`` names its entry in that end's log."""

    code = "internal"


def _tree(root: type[SyndicateError]) -> list[type[SyndicateError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


#: Every error of ours by its code, for whoever rebuilds one from the wire.
BY_CODE: Mapping[str, type[SyndicateError]] = {error.code: error for error in _tree(SyndicateError)}
