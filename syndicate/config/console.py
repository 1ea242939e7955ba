"""``[console]``, which both daemons have."""

from __future__ import annotations

from pathlib import Path

import attrs

from syndicate.config.values import key, parse_path, parse_port, parse_text, parse_texts

CONSOLE_PORT = 7022


@attrs.frozen
class ConsoleConfig:
    """``[console]``: the SSH console; there is none where nobody may log in."""

    port: int = key(parse_port, default=CONSOLE_PORT)
    address: str = key(parse_text, default="127.0.0.1")
    operators: tuple[str, ...] = key(parse_texts, default=())
    viewers: tuple[str, ...] = key(parse_texts, default=())
    #: Holds ``<user>.keys``; ``console/keys`` below the state directory when not set.
    keys: Path | None = key(parse_path, default=None)
