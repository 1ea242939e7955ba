"""A volunteer keeps its certificate fresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from syndicate.credentials.enrolment import Enrolment

log = Logger()

#: Seconds between two looks at the certificate's age.
LOOK = 3600.0


@attrs.define(eq=False)
class Renewal(Service):
    """Renews the certificate of a volunteer that is joined, long before it expires.

    :param session: the secret of the present connection, or an empty text.
    """

    _reactor: Any
    _enrolment: Enrolment
    _session: Callable[[], str]
    _timer: IDelayedCall | None = None
    _asking: Deferred[None] | None = None

    def startService(self) -> None:
        """Look now and then."""
        super().startService()
        self._timer = self._reactor.callLater(LOOK, self._look)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _look(self) -> None:
        self._timer = self._reactor.callLater(LOOK, self._look)
        now = self._reactor.seconds()
        identity, secret = self._enrolment.identity, self._session()
        certificate = identity.certificate(now)
        if certificate is None or not secret or not identity.is_old(certificate, now):
            return
        self._asking = Deferred.fromCoroutine(self._enrolment.ask(secret))
        self._asking.addErrback(
            lambda failure: log.warn(
                "The certificate could not be renewed, which is tried again: {why}",
                why=failure.getErrorMessage(),
            )
        )
