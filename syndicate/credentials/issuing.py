"""The authority's signatures under the certificates of volunteers."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from zope.interface import implementer

from syndicate.credentials.authority import builder, certificate_bytes, load_issuer, usage
from syndicate.credentials.interface import Enrolled, IIssuer
from syndicate.domain.errors import Invalid

#: How long a volunteer's certificate is good.
LIFE = datetime.timedelta(days=90)

#: Longest request that is looked at, in characters of PEM; one for a key of ours has 400.
LONGEST = 4096


@implementer(IIssuer)
@attrs.frozen
class VolunteerIssuer:
    """Signs with the authority's key, which is read anew each time and kept nowhere else."""

    #: With ``ca.pem`` and ``ca.key``.
    directory: Path
    life: datetime.timedelta = LIFE

    def key_of(self, request: str) -> str:
        """See `IIssuer.key_of`."""
        return key_digest(_key_in(request))

    def issue(self, name: str, request: str, now: float) -> tuple[str, Enrolled]:
        """See `IIssuer.issue`."""
        key = _key_in(request)
        made = self.sign((name,), key, now)
        until = made.not_valid_after_utc.timestamp()
        known = Enrolled(name, (f"{made.serial_number:x}",), key_digest(key), now, until)
        return certificate_bytes(made).decode("ascii"), known

    def sign(
        self, names: tuple[str, ...], key: ec.EllipticCurvePublicKey, now: float
    ) -> x509.Certificate:
        """A certificate that lets its holder be any of these volunteers, and nothing else: not
        the manager, and not an authority.
        """
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        issuer = load_issuer(self.directory / "ca.pem", self.directory / "ca.key", moment)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        until = min(moment + self.life, issuer.certificate.not_valid_after_utc)
        signer = issuer.key.public_key()
        return (
            builder(subject, issuer.certificate.subject, key, moment, until, signer)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
                critical=False,
            )
            .sign(issuer.key, hashes.SHA256())
        )


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """The digest of a public key, in hexadecimal."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _key_in(request: str) -> ec.EllipticCurvePublicKey:
    if len(request) > LONGEST:
        raise Invalid(f"A signing request has {LONGEST} characters at the most.")
    try:
        read = x509.load_pem_x509_csr(request.encode("ascii"))
        key = read.public_key()
        good = read.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Invalid(f"The signing request is none: {error}") from error
    if not good:
        raise Invalid("The signing request is not signed with the key that it is for.")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("The key of a volunteer is one of the curve P-256.")
    return key
