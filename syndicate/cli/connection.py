"""HTTPS to the manager with the standard library alone, over one connection that is kept.

The certificate is checked against the cluster's own authority and for the name that every manager
has, whatever the address it was reached by.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from syndicate.cli.exits import Unreachable
from syndicate.cli.pinned import ANSWER, Answer, Pinned
from syndicate.domain.errors import Conflict, Invalid, SyndicateError, Unavailable

#: Seconds that those who watch go on with a manager that does not answer: it may be started again.
PATIENCE = 60.0

#: Seconds to wait for another one who sends the same file.
_BUSY = 300.0

Result = TypeVar("Result")


class Connection:
    """Speaks with one manager.

    :param url: ``https://HOST[:PORT]``.
    :param token: makes the secret when the first request needs it.
    :param authority: file of the certificate that the manager's must be signed with.
    :param say: is told when an answer is waited for longer than usual.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        authority: str | None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.url = url
        self._host, self._port = _address(url)
        self._token, self._authority, self._say = token, authority, say
        self._context: ssl.SSLContext | None = None
        self._secret: str | None = None
        self._kept: Pinned | None = None
        #: Set once the user was told of the waiting; shared with those of other threads.
        self._told = threading.Event()
        #: Whether the manager was there once: then it may be there again.
        self._met = False
        #: Seconds to go on trying when a manager that was there before does not any more.
        self.patience = 10.0

    def close(self) -> None:
        """Close what is open."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # -- whole answers

    def get(self, path: str, **options: Any) -> Any:
        """The JSON at a path; see `request`."""
        return self.request("GET", path, **options).json()

    def post(self, path: str, body: object, **options: Any) -> Any:
        """Send JSON, and return the JSON that is answered; see `request`."""
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self.request("POST", path, body=data, headers=headers, **options).json()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
        timeout: float = ANSWER,
    ) -> Answer:
        """One request and its answer. Every request of ours may be repeated without harm, so it
        is, when the connection breaks.

        :param accept: statuses beside 2xx that are answers and not errors.
        :param timeout: seconds that the answer may take.
        :raises SyndicateError: the error that was answered.
        :raises Unreachable: nobody answers.
        """

        def once() -> Answer:
            return self._once(method, path, body, headers or {}, accept, timeout)

        return self.persist(once)

    def persist(self, attempt: Callable[[], Result]) -> Result:
        """Make an attempt that may break off, and make it again while there is `patience` with a
        manager that was there before: it may be restarting.

        :raises Unreachable: nobody answers.
        """
        deadline: float | None = None
        while True:
            try:
                return attempt()
            except (OSError, http.client.HTTPException, Unavailable) as error:
                self.close()
                now = time.monotonic()
                if not self.may_recover(error) or (deadline is not None and now > deadline):
                    raise self.explain(error) from error
                if deadline is None:  # at once: a kept connection may have been closed long since
                    deadline = now + self.patience
                    continue
                self.say_waiting()
                time.sleep(0.1 + random.random() / 5)

    def say_waiting(self) -> None:
        """Tell the user, once, that the manager is waited for."""
        if not self._told.is_set():
            self._told.set()
            self._say(f"The manager does not answer; trying for {self.patience:g} s.")

    def another(self) -> Connection:
        """One to the same manager, for another thread."""
        other = Connection(self.url, self._token, self._authority, self._say)
        other._context, other._secret = self._tls(), self._secret
        other._told = self._told
        other._met, other.patience = self._met, self.patience
        return other

    def may_recover(self, error: Exception) -> bool:
        """Whether what broke off may go well a little later."""
        if isinstance(error, Unavailable):
            # A full disk or queue, say, does not mend itself.
            return type(error) is Unavailable
        return self._met and not isinstance(error, ssl.SSLCertVerificationError)

    def explain(self, error: Exception) -> SyndicateError:
        """What to tell the user of a request that broke off."""
        if isinstance(error, SyndicateError):
            return error
        if isinstance(error, ssl.SSLCertVerificationError):
            mend = f"that the authority {self._authority} is that cluster's."
            if self._authority is None:
                mend = (
                    "name the cluster's authority where the URL is named (--authority, or"
                    " SYNDICATE_AUTHORITY, or authority beside url); none from further away is"
                    " taken. See: syndicate config show"
                )
            return Unreachable(
                f"Whoever answers at {self.url} is not the manager of the expected cluster"
                f" ({error.verify_message}). Check the URL, and {mend}"
            )
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Unreachable(
            f"No manager answers at {self.url}: {why or type(error).__name__}.\n"
            "Check that it runs (systemctl status syndicate-manager; syndicate lab status), that"
            " the URL is right (syndicate config show), and that no firewall is in between."
        )

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        accept: tuple[int, ...],
        timeout: float,
    ) -> Answer:
        connection = self._connection()
        assert connection.sock is not None
        connection.sock.settimeout(timeout)
        connection.request(method, path, body=body, headers={**self._headers(), **headers})
        return self._read(connection, accept)

    def _read(self, connection: Pinned, accept: tuple[int, ...]) -> Answer:
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        if not 200 <= answer.status < 300 and answer.status not in accept:
            raise answer.error()
        return answer

    def _connection(self) -> Pinned:
        if self._kept is None:
            connection = self._connect()
            self._kept = connection
        return self._kept

    def _connect(self) -> Pinned:
        connection = self.pin()
        connection.connect()
        self._met = True
        return connection

    def pin(self) -> Pinned:
        """A connection of its own, which is not made yet.

        :raises Unreachable: the authority cannot be read.
        """
        return Pinned(self._host, self._port, self._tls())

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                # Making one reads the whole system's authorities unless it is given ours.
                self._context = ssl.create_default_context(cafile=self._authority)
            except ssl.SSLError as error:
                raise Unreachable(
                    f"The authority {self._authority} holds no certificate. It must be the"
                    " cluster's ca.pem; see what names it: syndicate config show"
                ) from error
            except OSError as error:
                raise Unreachable(
                    f"The authority {self._authority} cannot be read: {error.strerror or error}."
                    " See what names it: syndicate config show"
                ) from error
        return self._context

    def _headers(self) -> dict[str, str]:
        if self._secret is None:
            self._secret = self._token()
        return {"Authorization": f"Bearer {self._secret}"}

    # -- bytes, up and down

    def upload(self, path: str, file: IO[bytes], size: int) -> None:
        """Put a file where blobs are, unless it is there; what arrived of it is not sent again.

        :raises SyndicateError: it was not taken.
        """

        def once() -> None:
            held = self._once("HEAD", path, None, {}, (404,), ANSWER)
            if held.status == 404:
                self._put(path, file, size, int(held.headers.get("X-Syndicate-Held", 0)))

        deadline = time.monotonic() + _BUSY
        while True:
            try:
                return self.persist(once)
            except Conflict:  # somebody else is sending the same; then it need not be sent again
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _put(self, path: str, file: IO[bytes], size: int, offset: int) -> None:
        file.seek(offset)
        connection = self._connection()
        headers = {
            **self._headers(),
            "Content-Length": str(size - offset),
            "Content-Type": "application/octet-stream",
            "X-Syndicate-Offset": str(offset),
            "X-Syndicate-Size": str(size),
        }
        try:
            connection.request("PUT", path, body=file, headers=headers)
        except (BrokenPipeError, ConnectionResetError) as error:
            # It may have been refused before it was all sent; then the answer says why.
            try:
                self._read(connection, ())
            except (OSError, http.client.HTTPException):
                raise error from None
            raise
        self._read(connection, ())

    @contextlib.contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Iterator[Iterator[bytes]]:
        """The bytes at a path as they come, on a connection of their own.

        :param timeout: seconds of silence after which the manager is given up; None when the
            stream may be silent for ever.
        :raises SyndicateError: the error that was answered.
        """
        connection = self._connect()
        assert connection.sock is not None
        connection.sock.settimeout(timeout)
        try:
            connection.request("GET", path, headers={**self._headers(), **(headers or {})})
            response = connection.getresponse()
            if response.status != 200:
                raise Answer(response.status, response.headers, response.read()).error()
            yield _chunks(response)
        finally:
            connection.close()


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(1 << 16):
        yield chunk


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        good = parts.scheme == "https" and host.isprintable() and host and " " not in host
    except ValueError:
        good = ""
    if not good:
        raise Invalid(f"{url!r} is not the URL of a manager, such as https://10.77.0.2:7080")
    return host, port
