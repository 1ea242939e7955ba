"""The cluster's authority and the manager's certificate."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from syndicate.credentials.authority import (
    AUTHORITY_LIFE,
    CERTIFICATE_LIFE,
    RENEW,
    Authority,
    ensure_authority,
)
from syndicate.domain.errors import Corrupt, Invalid, Unavailable

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(files: Authority) -> set[str]:
    held = certificate(files.certificate_file).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in held.value}


def test_a_first_start_makes_everything(tmp_path: Path) -> None:
    files = ensure_authority(tmp_path / "state/authority", ["10.1.2.3", "manager.example"])
    assert names(files) == {
        "syndicate-manager",
        "localhost",
        "127.0.0.1",
        "10.1.2.3",
        "manager.example",
    }
    held = certificate(files.certificate_file).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    addresses = held.value.get_values_for_type(x509.IPAddress)
    assert ipaddress.ip_address("10.1.2.3") in addresses
    certificate(files.certificate_file).verify_directly_issued_by(certificate(files.ca_file))


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    files = ensure_authority(tmp_path / "authority", [])
    keys = list((tmp_path / "authority").glob("*.key"))
    assert files.key_file in keys
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert len(keys) == 2
    assert list((tmp_path / "authority").glob("*.new")) == []


def test_the_next_start_changes_nothing(tmp_path: Path) -> None:
    ensure_authority(tmp_path, ["a.example", "b.example"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ensure_authority(tmp_path, ["b.example", "a.example", "localhost"])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_names_need_another_certificate_and_no_other_authority(tmp_path: Path) -> None:
    first = ensure_authority(tmp_path, ["a.example"])
    authority = first.ca_file.read_bytes()
    second = ensure_authority(tmp_path, ["b.example"])
    assert second.ca_file.read_bytes() == authority
    assert "b.example" in names(second)
    assert "a.example" not in names(second)


def test_a_certificate_is_renewed_long_before_its_end(tmp_path: Path) -> None:
    files = ensure_authority(tmp_path, [], now=NOW)
    first = files.certificate_file.read_bytes()
    ensure_authority(tmp_path, [], now=NOW + CERTIFICATE_LIFE - RENEW - DAY)
    assert files.certificate_file.read_bytes() == first
    later = NOW + CERTIFICATE_LIFE - RENEW + DAY
    ensure_authority(tmp_path, [], now=later)
    assert certificate(files.certificate_file).not_valid_after_utc == later + CERTIFICATE_LIFE


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    files = ensure_authority(tmp_path, [], now=NOW)
    late = NOW + AUTHORITY_LIFE - 10 * DAY
    ensure_authority(tmp_path, [], now=late)
    end = certificate(files.certificate_file).not_valid_after_utc
    assert end == certificate(files.ca_file).not_valid_after_utc
    before = files.certificate_file.read_bytes()
    ensure_authority(tmp_path, [], now=late + DAY)
    assert files.certificate_file.read_bytes() == before


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="büro"):
        ensure_authority(tmp_path, ["büro.example"])


def test_an_expired_authority_says_what_to_do(tmp_path: Path) -> None:
    ensure_authority(tmp_path, [], now=NOW)
    with pytest.raises(Unavailable, match="give the new one to all volunteers"):
        ensure_authority(tmp_path, [], now=NOW + AUTHORITY_LIFE + DAY)


@pytest.mark.parametrize(
    "kept", [["ca.key"], ["ca.key", "ca.pem"], ["ca.key", "ca.pem", "certificate.key"]]
)
def test_a_first_start_that_was_cut_short_is_made_good(tmp_path: Path, kept: list[str]) -> None:
    ensure_authority(tmp_path, [])
    for path in tmp_path.iterdir():
        if path.name not in kept:
            path.unlink()
    (tmp_path / "certificate.pem.new").write_text("half a certif")
    files = ensure_authority(tmp_path, [])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate_file, files.key_file)


def test_a_certificate_and_key_that_do_not_match_are_replaced(tmp_path: Path) -> None:
    files = ensure_authority(tmp_path / "one", [])
    other = ensure_authority(tmp_path / "other", [])
    files.key_file.write_bytes(other.key_file.read_bytes())
    ensure_authority(tmp_path / "one", [])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate_file, files.key_file)


@pytest.mark.parametrize("damage", [b"", b"damaged", None], ids=["empty", "damaged", "missing"])
@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_a_torn_authority_is_never_replaced_silently(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    ensure_authority(tmp_path, [])
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage)
    with pytest.raises(Corrupt, match="Restore both"):
        ensure_authority(tmp_path, [])


def test_a_key_of_another_authority_is_noticed(tmp_path: Path) -> None:
    ensure_authority(tmp_path / "one", [])
    ensure_authority(tmp_path / "other", [])
    (tmp_path / "one/ca.key").write_bytes((tmp_path / "other/ca.key").read_bytes())
    with pytest.raises(Corrupt):
        ensure_authority(tmp_path / "one", [])


def _handshake(server: Authority, ca_file: Path, name: str) -> str | None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server.certificate_file, server.key_file)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    asking.load_verify_locations(ca_file)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as wrapped:
                wrapped.recv(1)
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=name) as wrapped:
            return wrapped.version()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", ["syndicate-manager", "10.1.2.3"])
def test_those_who_hold_the_authority_trust_the_manager(tmp_path: Path, name: str) -> None:
    files = ensure_authority(tmp_path, ["10.1.2.3"])
    assert _handshake(files, files.ca_file, name) == "TLSv1.3"


def test_nobody_else_is_trusted(tmp_path: Path) -> None:
    files = ensure_authority(tmp_path / "one", [])
    other = ensure_authority(tmp_path / "other", [])
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(other, files.ca_file, "syndicate-manager")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(files, files.ca_file, "elsewhere.example")
