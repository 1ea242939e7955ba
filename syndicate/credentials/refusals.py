"""What a handshake of TLS that failed means, at either end, in sentences that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL


def said_by_openssl(error: BaseException | None) -> str:
    """What OpenSSL tells, in its own words: ``peer did not return a certificate``."""
    told = error.args[0] if error is not None and error.args else []
    words = [str(entry[-1]) for entry in told if isinstance(entry, tuple) and entry[-1]]
    return "; ".join(words) or "the handshake failed"


# At the manager.

#: OpenSSL's codes for what is wrong with a certificate that was shown; and what helps.
_FLAWS = {
    9: (
        "its certificate is not valid yet",
        "Compare the clocks of both hosts.",
    ),
    10: (
        "its certificate has expired",
        "It asks for a new one by itself, with its join token; if it does not, compare the clocks "
        "of both hosts.",
    ),
    26: (
        "its certificate is not that of a volunteer",
        "A volunteer gets one by joining, with tokens/join of this manager's state directory.",
    ),
}
_OF_OTHERS = (
    "its certificate was not signed by this cluster's authority",
    "A volunteer asks for a new one by itself, with its join token. If it does not: is it of "
    "another cluster? Copy authority/ca.pem and tokens/join of this manager's state directory to "
    "it, and remove identity from its own.",
)
_NONE = (
    "it shows no certificate",
    "If it is a volunteer of an older version, upgrade it; it then gets one by its join token.",
)
_TAKES_NOT_OURS = (
    "it does not take this manager's certificate",
    "If it is a volunteer of this cluster, copy authority/ca.pem of this manager's state directory "
    "to it.",
)
_NO_TLS = ("it does not speak TLS as a volunteer does", "This port is for volunteers alone.")


def handshake_failure(error: SSL.Error, connection: Any) -> str:
    """Why a peer did not get past the handshake with the manager, and what to do about that."""
    words, code = said_by_openssl(error), connection.get_app_data()
    if isinstance(code, int):
        what, hint = _FLAWS.get(code, _OF_OTHERS)
    elif "did not return a certificate" in words:
        what, hint = _NONE
    elif "alert" in words and ("unknown ca" in words or "certificate" in words):
        what, hint = _TAKES_NOT_OURS
    else:
        what, hint = _NO_TLS
    return f"{what[0].upper()}{what[1:]} ({words}). {hint}"


# At a volunteer.


def tls_failure(error: SSL.Error, authority: Path) -> str:
    """What is wrong with a manager that we could not agree with on TLS, as a sentence.

    :param authority: the file with the authority that we trust.
    """
    words = said_by_openssl(error)
    if "certificate verify failed" not in words:
        return f"TLS with it failed: {words}."
    return (
        f"what it shows is not of the authority in {authority}, so it is not taken for our "
        "manager. If that has a new authority, copy authority/ca.pem of its state directory there."
    )


def meaning_of(alert: str) -> str:
    """What an alert of TLS means here, as a sentence that ends with its own words."""
    for words, meaning in _ALERTS:
        if words in alert:
            return f"{meaning} ({alert})."
    return f"{alert}."


_ALERTS = (
    ("expired", "it has expired, or the clock of one of the two hosts is wrong"),
    ("unknown ca", "it was signed by another authority than the manager has now"),
    ("certificate required", "none was shown"),
)
