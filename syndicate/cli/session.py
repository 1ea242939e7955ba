"""What every verb works with: the cluster, the way to print, and the words to the user."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import click

from syndicate.cli import settings
from syndicate.cli.connection import Connection


class Session:
    """One call of ``syndicate``.

    :param flags: the options before the verb, by the key they set.
    :param lab: the lab that an option named.
    :param color: ``auto``, ``always`` or ``never``.
    """

    def __init__(
        self, flags: Mapping[str, str | None], lab: str | None = None, color: str = "auto"
    ) -> None:
        self._flags, self._color = flags, color
        self.lab = lab
        #: Says things in the place of standard error, while that shows what is drawn anew.
        self.speaker: Callable[[str], None] | None = None

    @functools.cached_property
    def settings(self) -> settings.Settings:
        """Which cluster, and as whom."""
        return settings.gather(self._flags, self.lab)

    @functools.cached_property
    def connection(self) -> Connection:
        """The way to the manager."""
        found = self.settings
        return Connection(found.url, found.token, found.authority, self.say)

    def close(self) -> None:
        """Close what is open."""
        if "connection" in self.__dict__:
            self.connection.close()

    def say(self, text: str) -> None:
        """Talk to the user: on standard error, where it is in nobody's way."""
        if self.speaker is not None:
            self.speaker(text)
        else:
            click.echo(text, err=True, color=self.colored(sys.stderr))

    def colored(self, stream: Any) -> bool:
        """Whether what goes to a stream may have colours."""
        if self._color != "auto":
            return self._color == "always"
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return not plain and bool(stream.isatty())

    # -- questions that many verbs ask

    def job(self, name: str) -> dict[str, Any]:
        """A job by number or ``latest``."""
        found: dict[str, Any] = self.connection.get(f"/v1/jobs/{quote(name, safe='')}")["job"]
        return found

    def machine_named(self, job: Mapping[str, Any], name: str) -> str:
        """A machine's proper name, by that, by ``slave0``, or by its address."""
        from syndicate.domain.job import canonical_machine

        wanted = canonical_machine(name)
        by_address = {each["address"]: str(each["machine"]) for each in job["machines"]}
        return by_address.get(wanted, wanted)


pass_session = click.make_pass_decorator(Session)
