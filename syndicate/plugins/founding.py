"""What a manager must have before it can serve: authority, certificate, first tokens.

Made when missing, at its first start or by ``syndicate-manager init`` before that; never anew.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from syndicate.config.manager import ManagerConfig
from syndicate.credentials.authority import Authority, ensure_authority
from syndicate.credentials.tokens import new_secret
from syndicate.domain.errors import Unavailable
from syndicate.durable import replace_file

#: First tokens: file below ``tokens/``, role, user.
FIRST_TOKENS = (
    ("join", "volunteer", "volunteer"),
    ("staff", "staff", "staff"),
    ("operator", "operator", "operator"),
)


@attrs.frozen
class Founded:
    """What is there now."""

    authority: Authority
    #: Secrets, as ``(secret, role, user)``.
    tokens: tuple[tuple[str, str, str], ...] = attrs.field(repr=False)
    #: Files that were not there before.
    made: tuple[Path, ...]


def found(config: ManagerConfig) -> Founded:
    """Make what is missing; all that is secret is for the owner of the process alone.

    :raises SyndicateError: it cannot be made, or what is there does not fit together.
    """
    state = config.manager.state
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The state directory {state} cannot be made: {error.strerror}. Make it, and give it "
            "to the user that the manager runs as."
        ) from error
    directory = state / "authority"
    files = [directory / name for name in ("ca.pem", "ca.key", "certificate.pem")]
    files += [state / "tokens" / name for name, _, _ in FIRST_TOKENS]
    missing = [path for path in files if not path.exists()]
    authority = ensure_authority(directory, config.manager.names)
    tokens = tuple(
        (_first_secret(state / "tokens" / name), role, user) for name, role, user in FIRST_TOKENS
    )
    return Founded(authority, tokens, tuple(missing))


def _first_secret(path: Path) -> str:
    """The secret in a file that only its owner can read; made when missing."""
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(path, f"{new_secret()}\n".encode("ascii"))
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"The token {path} cannot be used: {error}.") from error
