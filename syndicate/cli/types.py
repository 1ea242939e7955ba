"""What may stand in the places of arguments and options."""

from __future__ import annotations

import re
from typing import Any

import click

from syndicate.domain.quantities import parse_size, parse_span


class Job(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4 only
    """A job: its number, ``latest``, or its name, if no other has it."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word that stands in the URL."""
        text = str(value).removeprefix("#")
        if not re.fullmatch(r"[1-9][0-9]{0,14}|[A-Za-z][A-Za-z0-9._+-]*", text):
            self.fail(f"{value!r} is no job: give its number, its name, or 'latest'.", param, ctx)
        return text

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        """The numbers of jobs, if the manager says so at once."""
        from syndicate.cli.completing import job_items

        return job_items(ctx, incomplete)


class Size(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4 only
    """A number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Span(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4 only
    """A span of time."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        try:
            return parse_span(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


JOB = Job()
SIZE = Size()
SPAN = Span()
