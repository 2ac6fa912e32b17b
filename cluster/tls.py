"""Who is at the other end: certificates that the log's membership pins. No authority outside of the log is asked.

Every node has an ECDSA P-256 key and one self-signed certificate, whose exact bytes stand in the membership. Both sides of a
connection take the certificates of current members for roots and nothing else; the server then compares what it was shown
with what the membership holds at that moment, so a member that signs another certificate, or was removed, gets nothing.
Certificates have no end that a clock could reach: the membership says who is trusted, from one record to another.
"""

from __future__ import annotations

import binascii
import os
import stat
from collections.abc import Callable
from typing import Any

from cluster.errors import ClusterConfigurationError
from wal.durable_file import read_file, write_file
from wal.limits import CERTIFICATE_BYTES_MAX
from wal.membership import Membership

KEY_FILE = "tls.key"
CERTIFICATE_FILE = "tls.crt"
_KEY_BYTES_MAX = 4096
_BEGIN, _END = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
_LINE_BYTES = 48


class Identity:
    """What a node shows and proves: its member name, its certificate in DER, and the private key in PEM, which no text of
    this object holds."""

    __slots__ = ("_key_pem", "certificate", "name")

    def __init__(self, name: str, certificate: bytes, key_pem: bytes) -> None:
        self.name = name
        self.certificate = certificate
        self._key_pem = key_pem

    def __repr__(self) -> str:
        return f"Identity({self.name!r})"

    def pair(self) -> tuple[bytes, bytes]:
        """(private key, certificate), both in PEM, as gRPC takes them."""
        return self._key_pem, pem_of(self.certificate)


def make_identity(folder: str, name: str) -> Identity:
    """Make a key and a certificate for the member ``name`` and keep them in ``folder`` (files of mode 0600).

    Raises ClusterConfigurationError when there is a certificate already: a new key is a change of the membership.
    LogFailedError when they cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    where = os.path.join(folder, CERTIFICATE_FILE)
    if os.path.lexists(where):
        raise ClusterConfigurationError("this node has a certificate already", where=where)
    key = ec.generate_private_key(ec.SECP256R1())
    der = _self_signed(key, name)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    write_file(os.path.join(folder, KEY_FILE), pem)
    write_file(where, pem_of(der))
    return Identity(name, der, pem)


def load_identity(folder: str) -> Identity:
    """What ``make_identity`` made. Raises ClusterConfigurationError when it is missing, does not belong together, or
    others than its owner may read the key."""
    key_path, path = os.path.join(folder, KEY_FILE), os.path.join(folder, CERTIFICATE_FILE)
    key, certificate = read_file(key_path), read_file(path)
    if key is None or certificate is None:
        missing = key_path if key is None else path
        raise ClusterConfigurationError("this node has no identity for its cluster", where=missing, found="no file")
    mode = stat.S_IMODE(os.stat(key_path).st_mode)
    if mode & 0o077:
        raise ClusterConfigurationError(
            "the private key of this node can be read by others", where=key_path, expected="0600", found=f"{mode:04o}"
        )
    der = der_of(certificate)
    name = certificate_name(der, path)
    if _public_of(key) != _public_in(der):
        raise ClusterConfigurationError(
            "key and certificate do not belong together", where=path, expected=f"the certificate of {key_path}"
        )
    return Identity(name, der, key)


def certificate_name(der: bytes, where: str = "certificate") -> str:
    """The member's name in a certificate that can be pinned: self-signed, P-256, one name. Checked before it goes into a
    membership. Raises ClusterConfigurationError."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if len(der) > CERTIFICATE_BYTES_MAX:
            raise ValueError
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = names.get_values_for_type(x509.DNSName)
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) and len(named) == 1:
            return str(named[0])
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
        pass
    raise ClusterConfigurationError(
        "not a certificate of a member", where=where, expected="one self-signed P-256 certificate with one DNS name",
        found=f"{len(der)} other bytes",
    )  # fmt: skip


def _self_signed(key: Any, name: str) -> bytes:
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Long ago, for clocks that are behind; and the value by which X.509 says that there is no end.
        .not_valid_before(datetime(2000, 1, 1))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _public_of(key_pem: bytes) -> bytes | None:
    from cryptography.hazmat.primitives import serialization

    try:
        if len(key_pem) > _KEY_BYTES_MAX:
            return None
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError):
        return None
    return _spki(key.public_key())


def _public_in(der: bytes) -> bytes:
    from cryptography import x509

    return _spki(x509.load_der_x509_certificate(der).public_key())


def _spki(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    raw: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw


def pem_of(der: bytes) -> bytes:
    """A certificate in PEM."""
    lines = (binascii.b2a_base64(der[at : at + _LINE_BYTES]).decode() for at in range(0, len(der), _LINE_BYTES))
    return (_BEGIN + "".join(lines) + _END).encode()


def der_of(pem: bytes) -> bytes:
    """The first certificate of a PEM text, empty when there is none."""
    _, _, rest = pem.decode("ascii", "replace").partition(_BEGIN.strip())
    body, end, _ = rest.partition(_END.strip())
    try:
        return binascii.a2b_base64("".join(body.split()), strict_mode=True) if end else b""
    except ValueError:
        return b""


class Pins:
    """Which member a certificate belongs to, by the membership of this moment. Safe for use by several threads."""

    def __init__(self, members: Callable[[], Membership | None]) -> None:
        self._members = members
        self._seen: tuple[Membership | None, dict[bytes, str]] = (None, {})

    def current(self) -> dict[bytes, str]:
        """Names by certificate (DER). One that stands for two members stands for none."""
        membership = self._members()
        seen, names = self._seen
        if membership is not seen:
            names = _pinned(membership)
            self._seen = membership, names
        return names

    def name_of(self, der: bytes) -> str | None:
        """The member with exactly this certificate, if there is one now."""
        return self.current().get(der)


def _pinned(membership: Membership | None) -> dict[bytes, str]:
    shown = [(member.certificate, member.name) for member in membership.members] if membership is not None else []
    certificates = [certificate for certificate, _ in shown]
    return {der: name for der, name in shown if der and certificates.count(der) == 1}


def server_credentials(identity: Identity, pins: Pins) -> Any:
    """gRPC credentials of a server that speaks with members only; each handshake asks who they are."""
    import grpc

    def configuration(names: dict[bytes, str]) -> Any:
        # One's own certificate where there is no member yet: gRPC would take everyone for an empty list.
        roots = b"".join(pem_of(der) for der in names if _loads(der)) or pem_of(identity.certificate)
        return grpc.ssl_server_certificate_configuration([identity.pair()], root_certificates=roots)

    given = pins.current()
    first = configuration(given)

    def fetch() -> Any:
        nonlocal given
        names = pins.current()
        if names is given:
            return None
        made = configuration(names)
        given = names
        return made

    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=True)


def _loads(der: bytes) -> bool:
    """Whether gRPC can read it: one certificate that it cannot would shut out all others."""
    try:
        certificate_name(der)
    except ClusterConfigurationError:
        return False
    return True


def channel_credentials(identity: Identity, certificate: bytes) -> Any:
    """gRPC credentials of a client that speaks with the holder of exactly this certificate (DER)."""
    import grpc

    key, chain = identity.pair()
    return grpc.ssl_channel_credentials(pem_of(certificate), key, chain)
