"""What the shell offers for a job's number; it may take a second and must never complain."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from syndicate.cli.connection import Connection
from syndicate.cli.settings import gather
from syndicate.domain.errors import SyndicateError

PATIENCE = 1.0
_MOST = 30


def job_items(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The latest jobs whose number begins so."""
    given: dict[str, Any] = ctx.find_root().params
    flags = {key: given.get(key) for key in ("url", "token_file", "authority")}
    try:
        found = gather(flags, given.get("lab"))
        connection = Connection(found.url, found.token, found.authority)
        connection.patience = 0.0
        try:
            jobs = connection.get(f"/v1/jobs?all=1&limit={_MOST}", timeout=PATIENCE)["jobs"]
        finally:
            connection.close()
    except (SyndicateError, OSError):
        return []
    items = [CompletionItem(str(job["job"]), help=job["name"]) for job in reversed(jobs)]
    return [
        item for item in [*items, CompletionItem("latest")] if item.value.startswith(incomplete)
    ]
