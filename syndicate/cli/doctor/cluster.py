"""Whether this shell can use its cluster: each step of the way to the manager, and what it says."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from syndicate import __version__
from syndicate.cli import exits
from syndicate.cli.connection import Connection
from syndicate.cli.doctor.findings import FAIL, OK, SKIPPED, WARN, Finding, failed, look
from syndicate.cli.exits import Unreachable
from syndicate.cli.pinned import CONNECT, Answer, Pinned
from syndicate.cli.session import Session
from syndicate.cli.settings import Settings
from syndicate.cli.verbs.looking import STORE_WRONG, say_counts, say_store
from syndicate.domain.errors import SyndicateError
from syndicate.domain.quantities import say_span

#: Seconds that clocks may differ without anybody seeing it in what is shown.
_CLOCKS = 5.0

#: Seconds before its end in which a certificate should long have been made anew.
_LATE = 30 * 86400

#: States in which a volunteer should not be for long.
_BAD = ("gone", "quarantined", "unclean")


def examine(session: Session, *, wanted: bool) -> Iterator[Finding]:
    """Look at each step in turn; those behind one that fails are skipped.

    :param wanted: whether it is a failure that no cluster is known.
    """
    try:
        settings = session.settings
    except SyndicateError as error:
        yield failed("url", error)
        return
    if settings.find("url") is None and not settings.labs:
        hint = (
            "For one on this machine: syndicate lab up. For another set SYNDICATE_URL,"
            " SYNDICATE_TOKEN_FILE and SYNDICATE_AUTHORITY, or the same in"
            " ~/.config/syndicate/config.toml."
        )
        result = FAIL if wanted else SKIPPED
        yield Finding("url", result, "no cluster is known", hint, exits.UNREACHABLE)
        return
    way = _Way(settings)
    lost = ""
    for check, work in way.steps():
        if lost:
            yield Finding(check, SKIPPED, f"not tried, as '{lost}' fails")
            continue
        for finding in look(check, work):
            yield finding
            lost = lost or (check if finding.result == FAIL else "")
    way.close()


class _Way:
    """The way to the manager, on one connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pinned: Pinned | None = None
        self._connection: Connection | None = None
        self._raw: socket.socket | None = None
        self._status: dict[str, Any] = {}
        self._date: tuple[float, str | None] = (0.0, None)

    def steps(self) -> list[tuple[str, Callable[[], list[Finding]]]]:
        """The checks, in the order in which each needs those before."""
        return [
            ("url", self._url),
            ("authority", self._authority),
            ("name", self._name),
            ("tcp", self._tcp),
            ("tls", self._tls),
            ("manager", self._manager),
            ("clock", self._clock),
            ("token", self._token),
            ("store", self._store),
            ("volunteers", self._volunteers),
        ]

    def close(self) -> None:
        """Close what is open."""
        if self._pinned is not None:
            self._pinned.close()
        if self._raw is not None:
            self._raw.close()

    def _url(self) -> list[Finding]:
        self._connection = Connection(
            self._settings.url, self._settings.token, self._settings.authority
        )
        return [Finding("url", OK, self._said("url"))]

    def _authority(self) -> list[Finding]:
        assert self._connection is not None
        self._pinned = self._connection.pin()
        said = self._said("authority")
        if self._settings.authority is None:
            advice = "Name the authority where the URL is named. See: syndicate config show"
            return [Finding("authority", WARN, said or "not set", advice)]
        return [Finding("authority", OK, said)]

    def _name(self) -> list[Finding]:
        pinned = self._there
        try:
            ipaddress.ip_address(pinned.host)
        except ValueError:
            pass
        else:
            return [Finding("name", OK, f"{pinned.host} is an address")]
        try:
            found = socket.getaddrinfo(pinned.host, pinned.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            seen = f"{pinned.host} is not found: {error.strerror}"
            advice = "Check the URL, /etc/hosts and the name servers in /etc/resolv.conf."
            return [Finding("name", FAIL, seen, advice, exits.UNREACHABLE)]
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        return [Finding("name", OK, f"{pinned.host} is {', '.join(addresses)}")]

    def _tcp(self) -> list[Finding]:
        pinned, began = self._there, time.monotonic()
        try:
            self._raw = pinned.reach()
        except OSError as error:
            return [failed("tcp", self._explain(error))]
        seen = f"port {pinned.port} answers after {_milliseconds(began)}"
        return [Finding("tcp", OK, seen)]

    def _tls(self) -> list[Finding]:
        pinned, raw, began = self._there, self._raw, time.monotonic()
        assert raw is not None
        raw.settimeout(CONNECT)
        pinned.timeout = CONNECT
        self._raw = None  # from now on it is the other's to close
        try:
            pinned.secure(raw)
        except OSError as error:
            return [failed("tls", self._explain(error))]
        certificate = pinned.sock.getpeercert() or {}
        ends = str(certificate["notAfter"])
        seen = f"signed by the authority, good until {ends}; {_milliseconds(began)}"
        if ssl.cert_time_to_seconds(ends) - time.time() < _LATE:
            advice = "The manager makes itself a new certificate when it is started again."
            return [Finding("tls", WARN, seen, advice)]
        return [Finding("tls", OK, seen)]

    def _manager(self) -> list[Finding]:
        found = self._ask("/v1/version").json()
        theirs, name = str(found["version"]), found["cluster"]
        seen = f"Syndicate {theirs}, cluster {name!r}"
        if theirs != __version__:
            advice = "Install the same version at both ends; each is made for its own."
            return [Finding("manager", WARN, f"{seen}; here is {__version__}", advice)]
        return [Finding("manager", OK, f"{seen}; the same version as here")]

    def _clock(self) -> list[Finding]:
        when, date = self._date
        if date is None:
            return [Finding("clock", SKIPPED, "the manager does not tell its time")]
        # What is told are whole seconds, and half of one is lost on the average.
        off = parsedate_to_datetime(date).timestamp() + 0.5 - when
        if abs(off) <= _CLOCKS:
            return [Finding("clock", OK, "the manager's is as ours, by its second")]
        way = "ahead of" if off > 0 else "behind"
        seen = f"the manager's is {say_span(round(abs(off)))} {way} ours"
        return [Finding("clock", WARN, seen, "Have both hosts keep time (chrony, timesyncd).")]

    def _token(self) -> list[Finding]:
        secret = self._settings.token()
        try:
            self._status = self._ask("/v1/status", {"Authorization": f"Bearer {secret}"}).json()
        except Unreachable:
            raise
        except SyndicateError as error:
            advice = "See: syndicate config show. Staff make tokens: syndicate token new."
            return [Finding("token", FAIL, str(error), advice, exits.of_error(error))]
        you = self._status["you"]
        told = (self._said(key) for key in ("token", "token_file"))
        where = next(text for text in told if text and not text.startswith("not used"))
        return [Finding("token", OK, f"you are {you['user']}, role {you['role']}; {where}")]

    def _store(self) -> list[Finding]:
        found = self._status["store"]
        if any(found.get(key) for key in STORE_WRONG):
            advice = "The manager's operator has to see to it: its log, and its disk."
            return [Finding("store", WARN, say_store(found), advice)]
        return [Finding("store", OK, say_store(found) or "nothing is wrong")]

    def _volunteers(self) -> list[Finding]:
        counts = self._status["volunteers"]
        total = sum(counts.values())
        if not total:
            advice = (
                "Look at a volunteer's log for what keeps it: journalctl -u syndicate-volunteer"
            )
            return [Finding("volunteers", WARN, "none has registered", advice)]
        seen = f"{total} in all: {say_counts(counts)}"
        if any(counts.get(state) for state in _BAD):
            return [Finding("volunteers", WARN, seen, "See why: syndicate volunteers")]
        return [Finding("volunteers", OK, seen)]

    def _said(self, key: str) -> str:
        return (self._settings.describe(key) or "").replace("  (from", " (from")

    @property
    def _there(self) -> Pinned:
        assert self._pinned is not None
        return self._pinned

    def _explain(self, error: Exception) -> SyndicateError:
        assert self._connection is not None
        return self._connection.explain(error)

    def _ask(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """One request.

        :raises SyndicateError: the error that was answered, or that nothing was.
        """
        pinned = self._there
        try:
            pinned.request("GET", path, headers=headers or {})
            response = pinned.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error
        self._date = time.time(), answer.headers.get("Date")
        if answer.status != http.client.OK:
            raise answer.error()
        return answer


def _milliseconds(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"
