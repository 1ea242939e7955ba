"""What TLS is to be like at the daemons' ends, and who a peer has proved to be in it."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from syndicate.credentials.authority import SERVER_NAME, Authority
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.interface import Identity
from syndicate.domain.errors import Invalid, Unauthorized


def server_options(authority: Authority, *, volunteers_only: bool) -> CertificateOptions:
    """The manager's end: TLS 1.2 or newer.

    :param volunteers_only: let nobody get past the handshake who does not show a certificate
        of the cluster's authority.
    """
    # Of cryptography's own classes: pyOpenSSL warns of Twisted's.
    key: Any = load_pem_private_key(authority.key_file.read_bytes(), None)
    certificate: Any = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    root = trustRootFromCertificates([Certificate.loadPEM(authority.ca_file.read_bytes())])
    options = CertificateOptions(
        privateKey=key,
        certificate=certificate,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        trustRoot=root if volunteers_only else None,
    )
    if volunteers_only:
        options.getContext().set_verify(_VERIFY, _note_verdict)
    return options


_VERIFY = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT | SSL.VERIFY_CLIENT_ONCE


def _note_verdict(connection: Any, shown: Any, code: int, depth: int, good: int) -> bool:
    if not good:
        # Of a handshake that failed OpenSSL does not tell why, beyond that it did.
        connection.set_app_data(code)
    return bool(good)


def client_options(authority: bytes, identity: tuple[Any, Any] | None = None) -> Any:
    """A volunteer's end: it talks to a manager of this authority, and to nobody else.

    :param authority: the authority's certificate, in PEM.
    :param identity: key and certificate to show.
    :raises Invalid: the authority is no certificate.
    """
    extra: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2}
    if identity is not None:
        extra |= {"privateKey": identity[0], "certificate": identity[1]}
    try:
        root = trustRootFromCertificates([Certificate.loadPEM(authority)])
    except Exception as error:
        raise Invalid(f"The authority is no certificate in PEM: {error}") from error
    return optionsForClientTLS(SERVER_NAME, trustRoot=root, extraCertificateOptions=extra)


def own(identity: VolunteerIdentity, certificate: x509.Certificate) -> tuple[Any, Any]:
    """What a volunteer shows."""
    return identity.key(), certificate


def identity_of(transport: Any) -> Identity:
    """Who is at the other end of a TLS connection whose handshake is done.

    :raises Unauthorized: it has shown no certificate, or one with no name.
    """
    shown = transport.getPeerCertificate()
    if shown is None:
        raise Unauthorized("A volunteer shows its certificate; it gets one by joining.")
    certificate = shown.to_cryptography()
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise Unauthorized("This certificate is of no volunteer.") from None
    return Identity(
        frozenset(names.get_values_for_type(x509.DNSName)), f"{certificate.serial_number:x}"
    )
