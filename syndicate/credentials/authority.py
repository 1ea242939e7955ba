"""The cluster's own certificate authority, and the manager's certificate signed by it.

Volunteers and users hold the authority's certificate and trust nothing else, so no public name
and no public authority is needed. Its key stays in the manager's state directory.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from syndicate.credentials.interface import SERVER_NAME as SERVER_NAME
from syndicate.domain.errors import Corrupt, Invalid, Unavailable
from syndicate.durable import replace_file

#: Names and addresses that are in every certificate of a manager.
ALWAYS = (SERVER_NAME, "localhost", "127.0.0.1")

AUTHORITY_LIFE = datetime.timedelta(days=3652)
CERTIFICATE_LIFE = datetime.timedelta(days=730)

#: A start with less than this left makes a new certificate, so that every start has a good year.
RENEW = datetime.timedelta(days=365)

#: Clocks of other machines may be behind ours by this.
SKEW = datetime.timedelta(hours=24)


@attrs.frozen
class Authority:
    """Where the certificates and the server's key lie."""

    #: For those who connect: the authority's certificate.
    ca_file: Path
    #: For the server.
    certificate_file: Path
    key_file: Path


def ensure_authority(
    directory: Path, names: Sequence[str], *, now: datetime.datetime | None = None
) -> Authority:
    """Make the authority at the first start, and a certificate whenever one is needed.

    :param directory: made when it is not there.
    :param names: host names and addresses of the manager, beside those of `ALWAYS`.
    :param now: an aware time, instead of the present.
    :raises Invalid: a name is none.
    :raises Corrupt: the authority's files do not belong together.
    :raises Unavailable: it has expired, or the files cannot be written.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    files = Authority(
        directory / "ca.pem", directory / "certificate.pem", directory / "certificate.key"
    )
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = directory / "ca.key"
        if files.ca_file.exists() or files.certificate_file.exists():
            issuer = load_issuer(files.ca_file, key_file, now)
        else:
            # The authority's key may be there, of a first start that came no further.
            issuer = _new_authority(files.ca_file, key_file, now)
        wanted = tuple(dict.fromkeys((*ALWAYS, *names)))
        if not _is_good(files, issuer.certificate, wanted, now):
            _issue(files, issuer, wanted, now)
    except OSError as error:
        raise Unavailable(
            f"The certificates in {directory} cannot be used: {error.strerror}. "
            "Give the directory to the user that the manager runs as."
        ) from error
    return files


@attrs.frozen
class Issuer:
    """The authority itself: its certificate, and the key that signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def load_issuer(certificate_file: Path, key_file: Path, now: datetime.datetime) -> Issuer:
    """The authority in these files.

    :raises Corrupt: they do not belong together.
    :raises Unavailable: it has expired.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise _torn(certificate_file, key_file, str(error)) from error
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise _torn(certificate_file, key_file, "the key is another one's")
    if now >= certificate.not_valid_after_utc:
        raise Unavailable(
            f"The authority {certificate_file} has expired. Remove it and the other files beside "
            "it, start again, and give the new one to all volunteers and users."
        )
    return Issuer(certificate, key)


def _torn(certificate_file: Path, key_file: Path, why: str) -> Corrupt:
    return Corrupt(
        f"{certificate_file} and {key_file} do not belong together ({why}). Restore both from a "
        "copy; or remove both, start again, and give the new authority to all volunteers and users."
    )


def _new_authority(certificate_file: Path, key_file: Path, now: datetime.datetime) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Syndicate cluster authority")])
    certificate = (
        builder(name, name, key, now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    replace_file(key_file, key_bytes(key), 0o600)
    replace_file(certificate_file, certificate_bytes(certificate), 0o644)
    return Issuer(certificate, key)


def _is_good(
    files: Authority, authority: x509.Certificate, names: tuple[str, ...], now: datetime.datetime
) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
        key = serialization.load_pem_private_key(files.key_file.read_bytes(), None)
        certificate.verify_directly_issued_by(authority)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001  (whatever is wrong with it, a new one is right)
        return False
    until = min(now + RENEW, authority.not_valid_after_utc)
    return (
        key.public_key() == certificate.public_key()
        and set(held) == set(map(_general_name, names))
        and certificate.not_valid_before_utc <= now
        and certificate.not_valid_after_utc >= until
    )


def _issue(
    files: Authority, issuer: Issuer, names: tuple[str, ...], now: datetime.datetime
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    until = min(now + CERTIFICATE_LIFE, issuer.certificate.not_valid_after_utc)
    certificate = (
        builder(subject, issuer.certificate.subject, key, now, until, issuer.key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    # A crash between the two leaves a pair that does not match, which the next start replaces.
    replace_file(files.key_file, key_bytes(key), 0o600)
    replace_file(files.certificate_file, certificate_bytes(certificate), 0o644)


def builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    until: datetime.datetime,
    signer: ec.EllipticCurvePublicKey | None = None,
) -> x509.CertificateBuilder:
    """A certificate as far as all of ours are alike.

    :param key: of its holder: a private one, or the public half of somebody else's.
    :param signer: the key it will be checked with; the holder's own when not given.
    """
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    signer = signer or public
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(until)
        # Python 3.13 asks for both of these when it checks strictly.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def usage(**granted: bool) -> x509.KeyUsage:
    """What a key may be used for: nothing but this."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in names})


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise Invalid(f"{name!r} is neither a host's name, in ASCII, nor an address.") from error


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as its file holds it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_bytes(certificate: x509.Certificate) -> bytes:
    """A certificate as its file holds it."""
    return certificate.public_bytes(serialization.Encoding.PEM)
