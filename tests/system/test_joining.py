"""Who gets in at the doors of real daemons: TLS, certificates, tokens, and how they are lost."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs
import psutil
import pytest

from syndicate.credentials.authority import certificate_bytes, ensure_authority
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.issuing import VolunteerIssuer
from tests.support.banana import GREETING, call
from tests.support.labs import Running, eventually, up
from tests.support.manager_daemon import ManagerDaemon, manage, manager_daemon

pytestmark = [pytest.mark.system, pytest.mark.deadline(120)]

SECRETS = ("tokens/join", "tokens/staff", "tokens/operator")


# What init makes.


def test_init_makes_all_that_is_secret_for_its_owner_alone_and_only_once(tmp_path: Path) -> None:
    config, state = tmp_path / "manager.toml", tmp_path / "state"
    config.write_text(f'[manager]\nstate = "{state}"\nnames = ["10.1.2.3"]\n')
    os.umask(0)
    try:
        first = manage("init", "-c", config)
    finally:
        os.umask(0o022)
    assert first.code == 0, first
    secret = {"ca.key", "certificate.key", "join", "staff", "operator"}
    found = {path.name: path for path in state.rglob("*") if path.is_file()}
    assert secret <= set(found)
    for name in secret:
        assert stat.S_IMODE(found[name].stat().st_mode) == 0o600, name
    for directory in (state, state / "authority", state / "tokens"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    before = {name: path.read_bytes() for name, path in found.items()}
    again = manage("init", "-c", config)
    assert again.code == 0
    assert "All is there already" in again.out
    assert {name: path.read_bytes() for name, path in found.items()} == before
    for said in (first, again):
        assert "10.1.2.3" in said.out
        for name in ("join", "staff", "operator"):
            assert before[name].decode().strip() not in said.out + said.err


def test_init_says_what_is_in_its_way(tmp_path: Path) -> None:
    config, state = tmp_path / "manager.toml", tmp_path / "state"
    config.write_text(f'[manager]\nstate = "{state}"\n')
    assert manage("init", "-c", config).code == 0
    (state / "authority/ca.key").unlink()
    ended = manage("init", "-c", config)
    assert ended.code != 0
    assert "do not belong together" in ended.err
    assert "Traceback" not in ended.err


# A stranger on the network.


@attrs.frozen
class Stranger:
    """Somebody on the network of a manager."""

    daemon: ManagerDaemon

    @property
    def authority(self) -> Path:
        return self.daemon.state / "authority"

    def context(self, shown: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority / "ca.pem"))
        if shown is not None:
            context.load_cert_chain(shown / "certificate.pem", shown / "key.pem")
        return context

    def talk(self, context: ssl.SSLContext, data: bytes, port: int = 0) -> bytes:
        """What is answered over TLS; an alert is an `ssl.SSLError`."""
        raw = socket.create_connection(("127.0.0.1", port or self.daemon.wire_port), 10)
        with raw, context.wrap_socket(raw, server_hostname="syndicate-manager") as sock:
            sock.settimeout(3)
            sock.sendall(data)
            said = b""
            with contextlib.suppress(TimeoutError):
                while more := sock.recv(4096):
                    said += more
            return said

    def volunteer(self, directory: Path, name: str, issuer: VolunteerIssuer, **when: float) -> Path:
        """A key and a certificate that an authority has signed."""
        identity = VolunteerIdentity(directory, name)
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**when)
        made = issuer.sign((name,), identity.key().public_key(), now.timestamp())
        identity.keep(certificate_bytes(made).decode())
        return directory


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with manager_daemon(tmp_path_factory.mktemp("stranger")) as daemon:
        daemon.start()
        yield Stranger(daemon)


HELLO = GREETING + call(b"join", b"{}", [b"remote", 1])


def test_without_a_certificate_nothing_is_said_at_the_wire(stranger: Stranger) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate required|alert"):
        stranger.talk(stranger.context(), HELLO)


def test_a_certificate_of_another_authority_is_refused(stranger: Stranger, tmp_path: Path) -> None:
    ensure_authority(tmp_path / "other", ())
    other = VolunteerIssuer(tmp_path / "other")
    shown = stranger.volunteer(tmp_path / "evil", "v1", other)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert|unknown"):
        stranger.talk(stranger.context(shown), HELLO)


def test_a_certificate_that_has_expired_is_refused(stranger: Stranger, tmp_path: Path) -> None:
    issuer = VolunteerIssuer(stranger.authority, datetime.timedelta(days=1))
    # The authority of this test is younger than its certificate; only the latter's dates count.
    shown = stranger.volunteer(tmp_path / "late", "v1", issuer, days=3)
    with pytest.raises(ssl.SSLError, match=r"(?i)expired|alert"):
        stranger.talk(stranger.context(shown), HELLO)


def test_the_managers_own_certificate_is_none_of_a_volunteer(
    stranger: Stranger, tmp_path: Path
) -> None:
    for name, kept in (("certificate.pem", "certificate.pem"), ("certificate.key", "key.pem")):
        shutil.copy(stranger.authority / name, tmp_path / kept)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert|certificate"):
        stranger.talk(stranger.context(tmp_path), HELLO)


def test_a_volunteers_certificate_does_not_make_a_manager(
    stranger: Stranger, tmp_path: Path
) -> None:
    """Whoever has one cannot pose as the manager to others."""
    issuer = VolunteerIssuer(stranger.authority)
    shown = stranger.volunteer(tmp_path / "v", "syndicate-manager", issuer)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(shown / "certificate.pem", shown / "key.pem")
    left, right = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(left, right, server_side=True)
    client = stranger.context().wrap_bio(right, left, server_hostname="syndicate-manager")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)purpose|unsuitable"):
        client.do_handshake()


def test_one_with_a_good_certificate_is_listened_to_and_told_what_is_wrong(
    stranger: Stranger, tmp_path: Path
) -> None:
    issuer = VolunteerIssuer(stranger.authority)
    shown = stranger.volunteer(tmp_path / "v", "v1", issuer)
    said = stranger.talk(stranger.context(shown), HELLO)
    assert b"This is no Hello" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", GREETING, b"\x16\x03\x01\xff\xff"])
def test_plain_text_gets_no_answer_at_either_door(stranger: Stranger, data: bytes) -> None:
    for port in (stranger.daemon.wire_port, stranger.daemon.api_port):
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.settimeout(5)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionError):
                while more := sock.recv(4096):
                    said += more
        # A TLS alert at the most.
        assert said[:1] in (b"", b"\x15"), said
        assert len(said) < 50


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(stranger: Stranger, version: ssl.TLSVersion) -> None:
    context = stranger.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    for port in (stranger.daemon.wire_port, stranger.daemon.api_port):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            stranger.talk(context, b"x", port)


def test_a_manager_says_no_secret_in_its_log_arguments_or_environment(stranger: Stranger) -> None:
    assert stranger.daemon.process is not None
    process = psutil.Process(stranger.daemon.process.pid)
    told = " ".join(process.cmdline()) + str(process.environ()) + stranger.daemon.log
    for name in SECRETS:
        assert (stranger.daemon.state / name).read_text().strip() not in told


def test_a_revoked_or_expired_token_ends_a_command_with_4(stranger: Stranger) -> None:
    daemon = stranger.daemon
    made = daemon.run("token", "new", "--user", "ann", "-o", "json").json()
    short = daemon.run("token", "new", "--user", "bob", "--expires", "1s", "-o", "json").json()
    assert daemon.run("token", "revoke", made["id"]).code == 0
    listed = daemon.run("token", "list", "-o", "json")
    assert {each["id"]: each["state"] for each in listed.json()}[made["id"]] == "revoked"
    assert made["secret"] not in listed.out
    staff = daemon.directory / "staff"
    kept = staff.read_text()
    try:
        for secret, word in ((made["secret"], "revoked by staff"), (short["secret"], "expired")):
            staff.write_text(secret)
            ended = eventually(lambda: (e := daemon.run("queue")).code and e)
            assert ended.code == 4
            assert word in ended.err
            assert secret not in ended.err
    finally:
        staff.write_text(kept)


# Volunteers that join, are revoked, and come back.


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("lab"), 2) as running:
        yield running


def operator(lab: Running, *words: str) -> str:
    """Run a command as the operator."""
    token = lab.lab.directory / "manager/state/tokens/operator"
    done = lab.run(*words, SYNDICATE_TOKEN_FILE=str(token))
    assert done.code == 0, done
    return done.out


@pytest.mark.needs_root
def test_a_volunteer_keeps_its_certificate_over_a_restart(lab: Running) -> None:
    kept = lab.lab.directory / "v1/state/identity"
    before = (kept / "certificate.pem").read_bytes()
    assert stat.S_IMODE((kept / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    # It needs its join token no more.
    (lab.lab.directory / "v1/join").rename(lab.lab.directory / "v1/away")
    lab.lab.restart("v1")
    assert (kept / "certificate.pem").read_bytes() == before
    (lab.lab.directory / "v1/away").rename(lab.lab.directory / "v1/join")


@pytest.mark.needs_root
def test_a_host_with_an_empty_disk_joins_again_with_no_input(lab: Running) -> None:
    kept = lab.lab.directory / "v1/state/identity"
    before = (kept / "certificate.pem").read_bytes()
    lab.lab.kill("v1")
    shutil.rmtree(kept)
    lab.lab.start("v1")
    assert (kept / "certificate.pem").read_bytes() != before


@pytest.mark.needs_root
def test_a_revoked_volunteer_is_out_until_it_gets_a_token_of_its_own(lab: Running) -> None:
    operator(lab, "certificate", "revoke", "v2")
    eventually(lambda: lab.volunteers()["v2"]["state"] == "gone")
    log = lab.lab.log("v2")
    eventually(lambda: "v2 was revoked by operator" in log.read_text())
    assert "Traceback" not in log.read_text()
    assert lab.volunteers()["v2"]["state"] == "gone"
    secret = operator(lab, "token", "new", "--role", "volunteer", "--host", "v2")
    (lab.lab.directory / "v2/join").write_text(secret)
    eventually(lambda: lab.volunteers()["v2"]["state"] == "free", 60)
    assert secret.strip() not in log.read_text()
    # That token is for v2 alone.
    (lab.lab.directory / "v1/join").write_text(secret)
    lab.lab.kill("v1")
    shutil.rmtree(lab.lab.directory / "v1/state/identity")
    with contextlib.suppress(Exception):
        lab.lab.start("v1", wait=3)
    eventually(lambda: "may join as v2 only" in lab.lab.log("v1").read_text())
