"""Which cluster the command line speaks to, and as whom.

Looked for in this order: the command's own options, the environment, ``./syndicate.toml``, the
user's and the system's configuration, and at last the lab that runs on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from syndicate.cli.exits import Unreachable
from syndicate.domain.errors import Forbidden
from syndicate.domain.values import did_you_mean

if TYPE_CHECKING:
    from syndicate.lab.state import Description

_VARIABLES = {
    "url": "SYNDICATE_URL",
    "token": "SYNDICATE_TOKEN",
    "token_file": "SYNDICATE_TOKEN_FILE",
    "authority": "SYNDICATE_AUTHORITY",
    "console_key": "SYNDICATE_CONSOLE_KEY",
    "output": "SYNDICATE_OUTPUT",
}
#: What is taken from nothing less explicit than what names the URL.
CREDENTIALS = ("token", "token_file", "authority", "console_key")
_FILE_KEYS = ("url", "token_file", "authority", "console_key", "output")

#: By these a job file is known that was given the name of a configuration.
_OF_A_JOB = frozenset(("schema", "source", "machines", "outputs", "limits"))

_NO_CLUSTER = """No cluster is known. Do one of these:
  - bring one up on this machine:    syndicate lab up
  - name one in the environment:     SYNDICATE_URL, SYNDICATE_TOKEN_FILE, SYNDICATE_AUTHORITY
  - or in ~/.config/syndicate/config.toml, with the keys url, token_file and authority."""


@attrs.frozen
class Layer:
    """What one source says."""

    source: str
    values: Mapping[str, str]


@attrs.frozen
class Settings:
    """All that the sources say, the most explicit first."""

    layers: tuple[Layer, ...]
    #: Labs that are up, when there are several to choose from and nothing names a URL.
    labs: tuple[str, ...] = ()

    def find(self, key: str, within: int | None = None) -> tuple[str, str, int] | None:
        """A value, where it is from, and the number of that layer.

        :param within: how many layers to look in; None for all.
        """
        for number, layer in enumerate(self.layers[:within]):
            if value := layer.values.get(key):
                return value, layer.source, number
        return None

    @property
    def url(self) -> str:
        """Where the manager answers.

        :raises Unreachable: nobody says.
        """
        found = self.find("url")
        if found is None and self.labs:
            raise Unreachable(
                f"Several labs are up: {', '.join(self.labs)}. Say which: syndicate --lab NAME …"
            )
        if found is None:
            raise Unreachable(_NO_CLUSTER)
        return found[0].rstrip("/")

    @property
    def authority(self) -> str | None:
        """The certificate that the manager's must be signed with."""
        found = self.credential("authority")
        return found[0] if found else None

    @property
    def console_key(self) -> str | None:
        """The file with the SSH key for the manager's console."""
        found = self.credential("console_key")
        return found[0] if found else None

    def token(self) -> str:
        """The secret to show.

        :raises Forbidden: there is none to be had.
        """
        found, file = self.credential("token"), self.credential("token_file")
        if found and (not file or found[2] <= file[2]):
            return _secret(found[0], found[1])
        if file is None:
            if self.find("token") or self.find("token_file"):
                raise Forbidden(
                    f"There is a token, but none that may be shown to {self.url} (it is from"
                    " further away than the URL; see: syndicate config show). Name it where the"
                    " URL is named, as with --token-file beside --url."
                )
            raise Forbidden(
                "There is no token to show to the manager. Set SYNDICATE_TOKEN_FILE, or token_file"
                " beside url in the configuration; staff make tokens (syndicate token new)."
            )
        try:
            return _secret(Path(file[0]).read_text("utf-8", "replace"), f"{file[0]} ({file[1]})")
        except OSError as error:
            raise Forbidden(
                f"The token file {file[0]} ({file[1]}) cannot be read: {error.strerror}."
            ) from error

    def describe(self, key: str) -> str | None:
        """A value and where it is from, or why it is not used; None when nobody says it. Secrets
        are not shown.
        """
        found, url = self.find(key), self.find("url")
        if found is None:
            return None
        if key in CREDENTIALS and url and self.credential(key) is None:
            return f"not used: that of {found[1]}, as the URL is from {url[1]}"
        return f"{'not shown' if key == 'token' else found[0]}  (from {found[1]})"

    def credential(self, key: str) -> tuple[str, str, int] | None:
        """A credential is only taken from what is as explicit as the URL it is shown to: else a
        ``syndicate.toml`` that lies around could have the user's token sent anywhere.
        """
        url = self.find("url")
        return self.find(key, url[2] + 1 if url else None)


def gather(flags: Mapping[str, str | None], lab: str | None = None) -> Settings:
    """Ask all sources.

    :param flags: the command's own options, by key.
    :param lab: the lab named by an option; it then stands before the environment.
    :raises Invalid: a configuration file with mistakes.
    """
    given = {key: value for key, value in flags.items() if value}
    layers = [Layer("option", given)]
    if lab is not None:
        layers.append(_named_lab(lab))
    environment = {key: os.environ[name] for key, name in _VARIABLES.items() if name in os.environ}
    layers.append(Layer("environment", environment))
    layers += (_read(path) for path in _files() if path.is_file())
    settings = Settings(tuple(layers))
    if settings.find("url") is not None:
        return settings
    from syndicate.lab.state import DEFAULT_NAME

    running = _running_labs()
    chosen = running.get(DEFAULT_NAME)
    if chosen is None and len(running) == 1:
        chosen = next(iter(running.values()))
    if chosen is None:
        return Settings(tuple(layers), labs=tuple(running))
    return Settings((*layers, _layer_of(chosen)))


def _files() -> Iterator[Path]:
    home = os.environ.get("XDG_CONFIG_HOME")
    yield Path("syndicate.toml")
    yield Path(home or Path.home() / ".config") / "syndicate/config.toml"
    yield Path("/etc/syndicate/client.toml")


def _read(path: Path) -> Layer:
    from syndicate.config.reading import mistaken, read_toml

    found = read_toml(path)
    problems = []
    for key, value in found.items():
        if key not in _FILE_KEYS:
            problems.append(f"{key}: no such key{did_you_mean(key, _FILE_KEYS)}")
        elif not isinstance(value, str):
            problems.append(f"{key}: {value!r} is not a text")
    if not _OF_A_JOB.isdisjoint(found):
        problems.append(
            "This file says which manager is used. If it is to be a job file, call it job.toml."
        )
    if problems:
        raise mistaken(path, problems)
    for key in ("token_file", "authority", "console_key"):
        if key in found:
            found[key] = str(path.absolute().parent / Path(found[key]).expanduser())
    return Layer(str(path), found)


def _named_lab(name: str) -> Layer:
    from syndicate.lab import state

    description = state.read(state.lab_directory(name))
    if description is None or description.stage != "up":
        raise Unreachable(f"There is no lab {name!r} that is up; see: syndicate lab list")
    return _layer_of(description)


def _running_labs() -> dict[str, Description]:
    """The user's labs that are up."""
    from syndicate.lab import state

    running = {}
    for name in state.all_labs():
        description = state.read(state.lab_directory(name))
        if description and description.stage == "up" and description.boot == state.this_boot():
            running[name] = description
    return running


def _layer_of(description: Description) -> Layer:
    keys = ("url", "authority", "token_file")
    values = {key: str(getattr(description, key)) for key in keys}
    values["console_key"] = str(description.console_key)
    return Layer(f"the lab {description.name!r}", values)


def _secret(text: str, source: str) -> str:
    """A token without the white space around it.

    :raises Forbidden: it is none, and could not even be sent.
    """
    secret = text.strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        raise Forbidden(f"What {source} holds is no token: one is a line of letters and digits.")
    return secret
