"""Who is let in after a restore: what was revoked since the backup was made stays so."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syndicate.credentials.identity import VolunteerIdentity
from tests.support.labs import Ran
from tests.support.manager_daemon import ManagerDaemon, manage, manager_daemon

pytestmark = [pytest.mark.system, pytest.mark.deadline(120)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ManagerDaemon]:
    with manager_daemon(tmp_path) as daemon:
        yield daemon


def ask(
    daemon: ManagerDaemon, method: str, path: str, token: str, body: Any = None
) -> tuple[int, Any]:
    """One request over HTTPS."""
    context = ssl.create_default_context(cafile=str(daemon.state / "authority/ca.pem"))
    connection = http.client.HTTPSConnection("localhost", daemon.api_port, context=context)
    headers = {"Authorization": f"Bearer {token}"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    told = answer.status, json.loads(answer.read())
    connection.close()
    return told


def secret(daemon: ManagerDaemon, name: str) -> str:
    return (daemon.state / "tokens" / name).read_text().strip()


def new_token(daemon: ManagerDaemon, user: str) -> tuple[str, str]:
    """Its id, and its secret."""
    body = {"role": "user", "user": user}
    code, told = ask(daemon, "POST", "/v1/tokens", secret(daemon, "staff"), body)
    assert code == 201, told
    return told["id"], told["secret"]


def enrol(daemon: ManagerDaemon, name: str) -> str:
    """Join as a volunteer, or once more; gives the serial of the certificate."""
    identity = VolunteerIdentity(daemon.directory / name, name)
    body = {"name": name, "request": identity.request()}
    code, told = ask(daemon, "POST", "/v1/certificates", secret(daemon, "join"), body)
    assert code == 201, told
    return str(certificates(daemon)[name]["serial"])


def certificates(daemon: ManagerDaemon) -> dict[str, Any]:
    _, told = ask(daemon, "GET", "/v1/certificates", secret(daemon, "operator"))
    return {each["volunteer"]: each for each in told["certificates"]}


def revoke(daemon: ManagerDaemon, kind: str, name: str) -> None:
    code, told = ask(daemon, "POST", f"/v1/{kind}/{name}/revoke", secret(daemon, "operator"))
    assert code == 200, told


def id_of(daemon: ManagerDaemon, user: str) -> str:
    _, told = ask(daemon, "GET", "/v1/tokens", secret(daemon, "operator"))
    (found,) = [each["id"] for each in told["tokens"] if each["user"] == user]
    return str(found)


def code_of(daemon: ManagerDaemon, token: str) -> int:
    return ask(daemon, "GET", "/v1/status", token)[0]


class Before:
    """A manager whose backup is followed by revocations."""

    def __init__(self, daemon: ManagerDaemon) -> None:
        daemon.start()
        self.ann, self.anns = new_token(daemon, "ann")
        self.bob, self.bobs = new_token(daemon, "bob")
        self.cay, self.cays = new_token(daemon, "cay")
        revoke(daemon, "tokens", self.cay)
        for name in ("v1", "v2"):
            enrol(daemon, name)
        self.copy = daemon.directory / "copy.tar"
        assert manage("backup", "-c", daemon.config, self.copy).code == 0
        self.dan, self.dans = new_token(daemon, "dan")
        self.operators = secret(daemon, "operator")
        for token in (self.ann, self.dan, id_of(daemon, "staff")):
            revoke(daemon, "tokens", token)
        enrol(daemon, "v3")
        for name in ("v1", "v3"):
            revoke(daemon, "certificates", name)
        self.serial = enrol(daemon, "v2")
        # What was acknowledged is in the journal of the database yet.
        daemon.stop(signal.SIGKILL)


def restore(daemon: ManagerDaemon, copy: Path, *words: str) -> Ran:
    done = manage("restore", "-c", daemon.config, *words, copy)
    assert done.code == 0, done
    daemon.start()
    return done


def test_what_was_revoked_since_the_backup_stays_revoked(daemon: ManagerDaemon) -> None:
    before = Before(daemon)
    done = restore(daemon, before.copy, "--force")
    assert [code_of(daemon, each) for each in (before.anns, before.bobs, before.cays)] == [
        401,
        200,
        401,
    ]
    # Of the tokens in files, and of those that the backup does not know, too.
    assert code_of(daemon, secret(daemon, "staff")) == 401
    assert code_of(daemon, before.dans) == 401
    assert code_of(daemon, before.operators) == 200
    known = certificates(daemon)
    assert known["v1"]["state"] == "revoked"
    # And the one that was renewed is not taken for an old one.
    assert (known["v2"]["state"], known["v2"]["serial"]) == ("good", before.serial)
    assert known["v3"]["state"] == "revoked"
    assert "3 tokens and 2 volunteers" in done.out
    assert done.err == ""


def test_where_they_cannot_be_read_the_audit_log_tells_what_was_revoked(
    daemon: ManagerDaemon,
) -> None:
    before = Before(daemon)
    database = daemon.state / "state.db"
    for path in daemon.state.glob("state.db-*"):
        path.unlink()
    database.write_bytes(b"not a database" * 1000)
    done = restore(daemon, before.copy, "--force")
    assert "found out from its audit log" in done.err
    assert before.ann in done.out
    for token in (before.anns, before.cays, before.dans, secret(daemon, "staff")):
        assert code_of(daemon, token) == 401
    assert code_of(daemon, before.bobs) == 200
    known = certificates(daemon)
    assert (known["v1"]["state"], known["v1"]["revoked_by"]) == ("revoked", "operator")
    # One that the backup knows nothing of must not pass for one that was never known.
    assert known["v3"]["state"] == "revoked"
    assert known["v2"]["state"] == "good"


def test_where_nothing_is_left_the_operator_is_told_what_the_backup_cannot_know(
    daemon: ManagerDaemon,
) -> None:
    before = Before(daemon)
    shutil.rmtree(daemon.state)
    done = restore(daemon, before.copy)
    assert code_of(daemon, before.anns) == 200
    assert "revoked since" in done.err
    assert "syndicate token revoke" in done.err


def test_nothing_is_taken_over_from_another_cluster(daemon: ManagerDaemon, tmp_path: Path) -> None:
    before = Before(daemon)
    for path in daemon.state.glob("authority/*"):
        path.unlink()
    assert manage("init", "-c", daemon.config).code == 0
    done = restore(daemon, before.copy, "--force")
    assert code_of(daemon, before.anns) == 200
    assert "another cluster" in done.err
