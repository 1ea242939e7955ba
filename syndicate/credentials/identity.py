"""A volunteer's own key and certificate, in its state directory."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syndicate.credentials.authority import key_bytes
from syndicate.domain.errors import Corrupt, Unavailable
from syndicate.durable import replace_file

#: A certificate is renewed once less than this part of its life is left.
LEFT = 1 / 3


@attrs.define(eq=False)
class VolunteerIdentity:
    """The files; the key never leaves them but for the memory of the daemon.

    :param directory: made when it is not there, for its owner alone.
    """

    directory: Path
    name: str

    @property
    def key_file(self) -> Path:
        """The private key, mode 0600."""
        return self.directory / "key.pem"

    @property
    def certificate_file(self) -> Path:
        """What the manager has signed."""
        return self.directory / "certificate.pem"

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key; made at the first call, and kept.

        :raises Unavailable: the directory cannot be written.
        :raises Corrupt: the file is no key.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.key_file.exists():
                replace_file(
                    self.key_file, key_bytes(ec.generate_private_key(ec.SECP256R1())), 0o600
                )
            key = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        except OSError as error:
            raise Unavailable(
                f"The volunteer's key {self.key_file} cannot be used: {error.strerror}."
            ) from error
        except (ValueError, TypeError) as error:
            raise self._broken(str(error)) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise self._broken("it is of another kind")
        return key

    def _broken(self, why: str) -> Corrupt:
        return Corrupt(
            f"{self.key_file} is no key of a volunteer ({why}). Remove {self.directory}, and the "
            "volunteer joins anew."
        )

    def certificate(self, now: float) -> x509.Certificate | None:
        """The certificate, if there is one that can be shown now.

        :param now: epoch seconds.
        """
        found = self._kept()
        return None if found is None or self._flaw(found, now) else found

    def flaw(self, now: float) -> str:
        """Why a certificate that was kept cannot be shown, as a sentence; empty where none was."""
        if not self.certificate_file.exists():
            return ""
        found = self._kept()
        return "It is no certificate." if found is None else self._flaw(found, now)

    def _kept(self) -> x509.Certificate | None:
        try:
            return x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except (OSError, ValueError):
            return None

    def _flaw(self, found: x509.Certificate, now: float) -> str:
        try:
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return "It is of nobody."
        if now >= found.not_valid_after_utc.timestamp():
            return f"It expired at {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC."
        if self.name not in names.get_values_for_type(x509.DNSName):
            return f"It is not that of {self.name}."
        if found.public_key() != self.key().public_key():
            return "It belongs to another key than the one beside it."
        return ""

    def is_old(self, certificate: x509.Certificate, now: float) -> bool:
        """Whether it is time to renew it."""
        until = certificate.not_valid_after_utc
        life = until - certificate.not_valid_before_utc
        return until - datetime.datetime.fromtimestamp(now, datetime.UTC) < life * LEFT

    def request(self) -> str:
        """A signing request in PEM: proof that we hold the key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name[:64])])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject)
        signed = made.sign(self.key(), hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def keep(self, certificate: str) -> None:
        """Keep what was signed.

        :raises Unavailable: it cannot be written.
        """
        try:
            replace_file(self.certificate_file, certificate.encode("ascii"), 0o644)
        except OSError as error:
            raise Unavailable(
                f"{self.certificate_file} cannot be written: {error.strerror}."
            ) from error

    def forget(self) -> None:
        """The manager does not take this certificate: ask for another one next time."""
        with contextlib.suppress(OSError):
            self.certificate_file.unlink()
