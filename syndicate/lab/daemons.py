"""What runs on the hosts of a lab, and how one knows that it is ready."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Collection
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Protocol

from syndicate.lab import fittings
from syndicate.lab.state import Description, Host


class IDaemons(Protocol):
    """What runs on the hosts; tests put simpler things in the place of the real ones."""

    def furnish(self, directory: Path, description: Description) -> None:
        """Write what the daemons need before they start."""

    def command(self, directory: Path, host: Host) -> list[str]:
        """How a host's daemon is started."""

    def ready(self, description: Description) -> Collection[str]:
        """The hosts that are ready now, of those that run."""


class RealDaemons:
    """``twistd syndicate-manager`` and ``twistd syndicate-volunteer``."""

    def furnish(self, directory: Path, description: Description) -> None:
        """Write configuration, authority and tokens."""
        fittings.furnish(directory, description)

    def command(self, directory: Path, host: Host) -> list[str]:
        """The command line of twistd, the one beside the Python that runs us."""
        kind = "manager" if host.name == "manager" else "volunteer"
        twistd = Path(sys.executable).with_name("twistd")
        log = directory / host.name / "log"
        words = ["--nodaemon", "--pidfile=", f"--logfile={log}", f"syndicate-{kind}"]
        config = fittings.configuration(directory, host)
        return [sys.executable, str(twistd), *words, "--config", str(config)]

    def ready(self, description: Description) -> Collection[str]:
        """The volunteers that have registered, and the manager when it answers."""
        return {"manager", *found} if (found := registered(description)) is not None else ()


def registered(description: Description) -> Collection[str] | None:
    """The volunteers that the manager has and that are not gone; None while it does not answer."""
    context = ssl.create_default_context(cafile=description.authority)
    context.check_hostname = False  # the certificate must be of our authority, which is ours alone
    secret = Path(description.token_file).read_text("ascii").strip()
    host = description.hosts["manager"].address
    connection = HTTPSConnection(host, fittings.API_PORT, timeout=5, context=context)
    try:
        connection.request("GET", "/v1/volunteers", headers={"Authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    if answer.status != 200:
        return None
    volunteers = json.loads(body)["volunteers"]
    return {each["volunteer"] for each in volunteers if each["state"] != "gone"}
