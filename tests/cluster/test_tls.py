"""Identities of nodes: made, kept, loaded, pinned."""

from __future__ import annotations

import os
import stat
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.errors import ClusterConfigurationError
from cluster.tls import (
    CERTIFICATE_FILE,
    KEY_FILE,
    Pins,
    certificate_name,
    der_of,
    load_identity,
    make_identity,
    pem_of,
)
from tests.cluster.wire_nodes import Nodes
from wal.limits import CERTIFICATE_BYTES_MAX
from wal.membership import Membership


def issued(
    name: str = "a",
    *,
    issuer: ec.EllipticCurvePrivateKey | None = None,
    issuer_name: str = "",
    authority: bool = False,
    curve: ec.EllipticCurve | None = None,
    names: tuple[str, ...] = (),
    key: ec.EllipticCurvePrivateKey | None = None,
) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """A certificate as other software makes it, and its key."""
    own = key or ec.generate_private_key(curve or ec.SECP256R1())
    called = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, issuer_name or name)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(called[0])
        .issuer_name(called[1])
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1))
        .not_valid_after(datetime(2099, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names or (name,)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    return builder.sign(issuer or own, hashes.SHA256()).public_bytes(serialization.Encoding.DER), own


def test_an_identity_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    """Both files have mode 0600, loading gives back what was made, and no text of it holds the key."""
    folder = str(tmp_path / "tls")
    made = make_identity(folder, "node-1")
    for name in (KEY_FILE, CERTIFICATE_FILE):
        assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600
    loaded = load_identity(folder)
    assert (loaded.name, loaded.certificate, loaded.pair()) == ("node-1", made.certificate, made.pair())
    assert made.certificate == der_of(made.pair()[1]) and certificate_name(made.certificate) == "node-1"
    assert repr(made) == "Identity('node-1')"
    assert not hasattr(made, "__dict__")


def test_a_certificate_has_no_end(tmp_path: Path) -> None:
    """It is valid by any clock: the membership says who is trusted."""
    parsed = x509.load_der_x509_certificate(make_identity(str(tmp_path), "a").certificate)
    assert parsed.not_valid_before_utc.year == 2000
    assert parsed.not_valid_after_utc.year == 9999


def test_an_identity_is_not_made_twice(tmp_path: Path) -> None:
    """A new certificate is a change of the membership. Half an identity, left by a crash, is made anew."""
    make_identity(str(tmp_path), "a")
    before = (tmp_path / KEY_FILE).read_bytes()
    with pytest.raises(ClusterConfigurationError):
        make_identity(str(tmp_path), "a")
    assert (tmp_path / KEY_FILE).read_bytes() == before
    (tmp_path / CERTIFICATE_FILE).unlink()
    assert make_identity(str(tmp_path), "a").pair()[0] != before
    load_identity(str(tmp_path))


@pytest.mark.invariant("I12")
def test_an_identity_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    """Missing, readable by others, of another key, or damaged; no error text holds anything of the key."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    make_identity(str(ours), "a")
    make_identity(str(theirs), "a")
    key = (ours / KEY_FILE).read_bytes()

    def refused() -> str:
        with pytest.raises(ClusterConfigurationError) as caught:
            load_identity(str(ours))
        assert key.splitlines()[1].decode()[:20] not in f"{caught.value} {caught.value.remedy}"
        return caught.value.what

    (ours / KEY_FILE).chmod(0o640)
    assert "read by others" in refused()
    (ours / KEY_FILE).chmod(0o600)
    (ours / KEY_FILE).write_bytes((theirs / KEY_FILE).read_bytes())
    assert "do not belong together" in refused()
    (ours / KEY_FILE).write_bytes(b"no key")
    assert "do not belong together" in refused()
    (ours / KEY_FILE).write_bytes(key)
    load_identity(str(ours))
    (ours / CERTIFICATE_FILE).write_bytes(b"no certificate")
    assert "not a certificate" in refused()
    (ours / CERTIFICATE_FILE).unlink()
    assert "no identity" in refused()


def test_only_a_self_signed_certificate_of_one_name_can_be_pinned() -> None:
    """What is refused here cannot get into a membership."""
    authority, key = issued("root", authority=True)
    assert certificate_name(authority) == "root"
    good, _ = issued("a")
    wrong = [
        issued("a", issuer=key, issuer_name="root")[0],
        issued("a", issuer=key)[0],
        issued("a", curve=ec.SECP384R1())[0],
        issued("a", names=("a", "b"))[0],
        good[:-1],
        good + b"\0",
        b"",
        bytes(CERTIFICATE_BYTES_MAX + 1),
    ]
    for der in wrong:
        with pytest.raises(ClusterConfigurationError):
            certificate_name(der)


def test_pem_is_that_of_others(tmp_path: Path) -> None:
    """As the library writes it, whatever the length; and back, or nothing."""
    der = make_identity(str(tmp_path), "a").certificate
    pem = x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    assert pem_of(der) == pem
    assert der_of(pem) == der_of(b"text before\n" + pem + pem) == der
    assert der_of(b"") == der_of(pem[:-5]) == der_of(pem.replace(b"M", b"\xff", 1)) == b""


def test_pins_follow_the_membership(tmp_path: Path) -> None:
    """A certificate belongs to the member that has it now. One that stands for two stands for nobody."""
    nodes = Nodes(tmp_path)
    pins = Pins(lambda: nodes.membership)
    certificate = {name: identity.certificate for name, identity in nodes.identities.items()}
    assert {name: pins.name_of(der) for name, der in certificate.items()} == {"a": "a", "b": "b", "c": "c"}
    nodes.join("a", "b")
    assert (pins.name_of(certificate["a"]), pins.name_of(certificate["c"])) == ("a", None)
    nodes.join("a", "b", certificates={"b": certificate["c"]})
    assert (pins.name_of(certificate["b"]), pins.name_of(certificate["c"])) == (None, "b")
    nodes.join("a", "b", certificates={"b": certificate["a"]})
    assert pins.name_of(certificate["a"]) is None
    nodes.join("a", "b", certificates={"b": b""})
    assert (pins.name_of(b""), pins.name_of(certificate["a"])) == (None, "a")
    nodes.membership = Membership(9, ())
    assert pins.current() == {}
    assert Pins(lambda: None).current() == {}
