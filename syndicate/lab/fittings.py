"""What the hosts of a lab find on their disks: configuration, authority and tokens.

The layout of a lab's directory::

    lab.json                 what the lab says of itself
    client/                  authority, token and the console's key, for the one who brought it up
    manager/manager.toml     log, output, keys/, and state/ with authority/ and tokens/
    v1/volunteer.toml        authority.pem, join, log, output, and state/
    skeletons/               what the roots of all volunteers' jobs begin with, in memory
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from syndicate.lab.disks import mount_skeletons
from syndicate.lab.state import Description, Host, write_private

WIRE_PORT = 7070
API_PORT = 7080

#: Who the one is who has brought the lab up, to its manager.
OPERATOR = "operator"


def client_files(directory: Path) -> tuple[Path, Path]:
    """Where the authority and the token for people are."""
    return directory / "client/ca.pem", directory / "client/token"


def skeletons(directory: Path) -> Path:
    """Where the skeletons of all volunteers' jobs are."""
    return directory / "skeletons"


def configuration(directory: Path, host: Host) -> Path:
    """The file that a host's daemon is told by."""
    kind = "manager" if host.name == "manager" else "volunteer"
    return directory / host.name / f"{kind}.toml"


def furnish(directory: Path, description: Description) -> None:
    """Make everything that the daemons need; what is there of a former time is kept."""
    from syndicate.credentials.authority import ensure_authority

    manager = description.hosts["manager"]
    state = directory / "manager/state"
    for path in (directory / "client", state / "authority", state / "tokens"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = ensure_authority(state / "authority", [manager.address])
    certificate = made.ca_file.read_text("ascii")
    authority, token = client_files(directory)
    adopt(authority.parent, directory)
    write_private(authority, certificate)
    write_private(token, _secret(state / "tokens/operator"))
    _let_into_console(authority.parent, directory)
    join = _secret(state / "tokens/join")
    _write_manager(directory, description, manager)
    mount_skeletons(skeletons(directory))
    for host in description.volunteers:
        _write_volunteer(directory, manager, host, certificate, join)


def _secret(path: Path) -> str:
    """The secret in a file, made when there is none."""
    from syndicate.credentials.tokens import new_secret

    if not path.exists():
        write_private(path, new_secret().format() + "\n")
    return path.read_text("ascii")


def _write_manager(directory: Path, description: Description, host: Host) -> None:
    path = configuration(directory, host)
    text = _toml(
        {
            "manager": {
                "state": str(path.parent / "state"),
                "cluster": description.name,
                "address": host.address,
                "wire_port": WIRE_PORT,
                "api_port": API_PORT,
                "names": [host.address],
            },
            "console": {
                "address": host.address,
                "operators": [OPERATOR],
                "keys": str(_console_keys(directory)),
            },
        }
    )
    write_private(path, text)


def _console_keys(directory: Path) -> Path:
    return directory / "manager/keys"


def _let_into_console(client: Path, directory: Path) -> None:
    """Make a key for the one who brought the lab up, and let it in."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    keys = _console_keys(directory)
    if (client / "console").exists() and keys.exists():
        return
    made = Ed25519PrivateKey.generate()
    private = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = made.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(client / "console", private.decode("ascii"))
    write_private(keys / f"{OPERATOR}.keys", public.decode("ascii") + "\n")


def _write_volunteer(
    directory: Path, manager: Host, host: Host, certificate: str, join: str
) -> None:
    path = configuration(directory, host)
    (path.parent / "state").mkdir(mode=0o711, parents=True, exist_ok=True)
    write_private(path.parent / "authority.pem", certificate)
    write_private(path.parent / "join", join)
    text = _toml(
        {
            "volunteer": {
                "name": host.name,
                "state": str(path.parent / "state"),
                "manager": manager.address,
                "wire_port": WIRE_PORT,
                "api_port": API_PORT,
                "authority": str(path.parent / "authority.pem"),
                "join_token_file": str(path.parent / "join"),
                "address": host.address,
            },
            # All hosts of a lab are this machine: one skeleton does for them.
            "sandbox": {
                "mode": "root",
                "uids": list(host.uids or ()),
                "skeletons": str(skeletons(directory)),
            },
        }
    )
    write_private(path, text)


def _toml(sections: dict[str, dict[str, object]]) -> str:
    # Texts, numbers and lists of them are written in TOML as in JSON.
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def adopt(path: Path, like: Path) -> None:
    """Give a path to the owner of another one."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
