"""The coordinator on a real etcd: holders that die or freeze, what others write there, who is let in."""

from __future__ import annotations

import base64
import os
import select
import signal
import threading
from pathlib import Path

import pytest

from cluster.errors import (
    ClusterConfigurationError,
    CoordinatorUnavailableError,
    CorruptRegisterError,
)
from cluster.etcd_settings import EtcdTls
from tests.cluster.etcd_members import (
    CALL_S,
    LEASE_S,
    WAIT_S,
    Candidates,
    answers_late,
    campaign_until_obtained,
    holding,
    obtained,
    refused_within,
    register,
)
from tests.cluster.etcd_process import EtcdCluster, poll
from tests.frozen import freeze


def test_a_killed_holder_is_followed(etcd: EtcdCluster, candidates: Candidates) -> None:
    """SIGKILL of the leader's process: its lease ends, a waiting member hears of it, and has a higher epoch."""
    b = candidates.member(etcd.endpoints)
    with holding(candidates, etcd.endpoints) as holder:
        assert b.leader() == ("holder", holder.epoch)
        assert holder.ask("held") == "True"
        holder.process.kill()
        assert campaign_until_obtained(b, "b", holder.epoch) > holder.epoch
    assert b.held()


def test_a_frozen_holder_knows_that_it_lost(etcd: EtcdCluster, candidates: Candidates) -> None:
    """SIGSTOP over the lease's end: when it runs again, held() is false at once and its publication changes nothing."""
    b = candidates.member(etcd.endpoints)
    with holding(candidates, etcd.endpoints) as holder:
        freeze(holder.process.pid)
        epoch = campaign_until_obtained(b, "b", holder.epoch)
        assert epoch > holder.epoch
        published = b.publish(epoch, register(9, 0))
        holder.process.send_signal(signal.SIGCONT)
        assert holder.ask("held") == "False"
        assert holder.ask("publish") == "None"
        assert b.register() == published


def test_a_held_lease_outlives_its_first_time(etcd: EtcdCluster, candidates: Candidates) -> None:
    """Kept alive in the background: still the same leadership after more than its lease."""
    a, b = candidates.member(etcd.endpoints), candidates.member(etcd.endpoints)
    epoch = obtained(a)
    assert b.leader() == ("a", epoch)
    assert not b.wait_change(LEASE_S * 1.5)
    assert a.held()
    assert b.leader() == ("a", epoch)


def test_a_removed_key_ends_the_leadership(etcd: EtcdCluster, candidates: Candidates) -> None:
    """The lease lives, but an operator has removed the key: the next keepalive finds out."""
    a = candidates.member(etcd.endpoints)
    obtained(a)
    remove(etcd, f"/femtoclaw/{candidates.log_id.hex()}/leader")
    poll(lambda: not a.held(), LEASE_S)


def remove(etcd: EtcdCluster, key: str) -> None:
    etcd.members[0].ask("/v3/kv/deleterange", key=encoded(key.encode()))


def put(etcd: EtcdCluster, key: str, value: bytes) -> None:
    etcd.members[0].ask("/v3/kv/put", key=encoded(key.encode()), value=encoded(value))


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize("raw", [b"", b"\xff", b"\x95\x01\x01\x01", b"a" * 5000])
def test_a_register_that_somebody_else_wrote_is_refused(etcd: EtcdCluster, candidates: Candidates, raw: bytes) -> None:
    """Bytes that are no register are a typed error, with the key's name."""
    put(etcd, f"/femtoclaw/{candidates.log_id.hex()}/head", raw)
    error = refused_within(candidates.member(etcd.endpoints).register, CorruptRegisterError, 5)
    assert candidates.log_id.hex() in error.where


@pytest.mark.parametrize("raw", [b"", b"\xff", b"a" * 65])
def test_a_leader_without_a_name_is_refused(etcd: EtcdCluster, candidates: Candidates, raw: bytes) -> None:
    """So is a leadership key whose value is no member's name."""
    put(etcd, f"/femtoclaw/{candidates.log_id.hex()}/leader", raw)
    refused_within(candidates.member(etcd.endpoints).leader, CorruptRegisterError, 5)


def test_a_password_is_used_and_a_wrong_one_refused(own_etcd: EtcdCluster, candidates: Candidates) -> None:
    """With etcd's own users, and a role for our prefix alone: a token is obtained and renewed. Else a typed refusal."""
    server = own_etcd.members[0]
    prefix = {"key": encoded(b"/femtoclaw/"), "range_end": encoded(b"/femtoclaw0")}
    for path, fields in (
        ("/v3/auth/user/add", {"name": "node", "password": "correct"}),
        ("/v3/auth/role/add", {"name": "node"}),
        ("/v3/auth/role/grant", {"name": "node", "perm": {"permType": "READWRITE", **prefix}}),
        ("/v3/auth/user/grant", {"user": "node", "role": "node"}),
        ("/v3/auth/user/add", {"name": "root", "password": "another"}),
        ("/v3/auth/role/add", {"name": "root"}),
        ("/v3/auth/user/grant", {"user": "root", "role": "root"}),
        ("/v3/auth/enable", {}),
    ):
        server.ask(path, **fields)
    secret = "not-the-right-one"
    nobody, wrong = (
        candidates.member(own_etcd.endpoints),
        candidates.member(own_etcd.endpoints, user="node", password=secret),
    )
    elsewhere = candidates.member(own_etcd.endpoints, user="node", password="correct", prefix="/other")
    for refused in (nobody, wrong, elsewhere):
        error = refused_within(refused.connect, ClusterConfigurationError, 5)
        assert error.exit_code == 2
        assert secret not in f"{error} {error.found} {error.remedy}"
    a = candidates.member(own_etcd.endpoints, user="node", password="correct")
    epoch = obtained(a)
    # A restarted etcd has forgotten its tokens.
    server.stop()
    server.start()
    server.wait()
    poll(lambda: not answers_late(a))
    assert campaign_until_obtained(a, "a", epoch) > epoch
    assert a.held()


def test_tls_with_a_client_certificate(tmp_path: Path, candidates: Candidates) -> None:
    """Encrypted, both sides shown: works; without our certificate, or with another authority, nothing does."""
    made = certificates(tmp_path)
    files = {name: tmp_path / f"{name}.pem" for name in ("authority", "certificate", "key")}
    for name, path in files.items():
        path.write_bytes(made[name])
    arguments = (
        "--cert-file", str(files["certificate"]), "--key-file", str(files["key"]), "--client-cert-auth",
        "--trusted-ca-file", str(files["authority"]),
    )  # fmt: skip
    cluster = EtcdCluster(tmp_path / "etcd", 1, arguments)
    try:
        ours = EtcdTls(made["authority"], made["certificate"], made["key"])
        a = candidates.member(cluster.endpoints, tls=ours)
        poll(lambda: not answers_late(a))
        assert obtained(a) > 0
        for tls in (EtcdTls(made["authority"]), EtcdTls(certificates(tmp_path)["authority"]), None):
            refused_within(
                candidates.member(cluster.endpoints, tls=tls).connect, CoordinatorUnavailableError, 4 * CALL_S
            )
        assert a.held()
    finally:
        cluster.end()


def certificates(folder: Path) -> dict[str, bytes]:
    """A new authority and one certificate for 127.0.0.1, for both sides."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def sign(subject: str, public: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType) -> x509.Certificate:
        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("authority")).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        made = made.not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            made = made.add_extension(extension, critical=False)
        return made.sign(authority_key, hashes.SHA256())

    pem = serialization.Encoding.PEM
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return {
        "authority": sign(
            "authority", authority_key.public_key(), x509.BasicConstraints(ca=True, path_length=None)
        ).public_bytes(pem),
        "certificate": sign("node", key.public_key(), address).public_bytes(pem),
        "key": key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    }


def test_closing_ends_a_wait(etcd: EtcdCluster, candidates: Candidates) -> None:
    """A thread that waits for a change is let go; afterwards every call raises."""
    a = candidates.member(etcd.endpoints)
    answers: list[object] = []

    def wait() -> None:
        try:
            answers.append(a.wait_change(WAIT_S * 2))
        except CoordinatorUnavailableError as error:
            answers.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    poll(lambda: a._client._watches, WAIT_S)
    a.close()
    waiting.join(WAIT_S)
    assert answers == [False]
    refused_within(a.leader, CoordinatorUnavailableError, CALL_S)


def test_a_forked_child_holds_nothing(etcd: EtcdCluster, candidates: Candidates) -> None:
    """Its connections and its keepalives are the parent's: in the child held() is false, and calls are refused."""
    a = candidates.member(etcd.endpoints)
    obtained(a)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            a.leader()
        except CoordinatorUnavailableError:
            os.write(writing, b"%d refused" % a.held())
        finally:
            os._exit(0)
    os.close(writing)
    said, _, _ = select.select([reading], [], [], 10 * CALL_S)
    os.kill(child, signal.SIGKILL)  # a child that asks over the parent's connections may wait for ever
    assert said and os.read(reading, 100) == b"0 refused"
    os.close(reading)
    os.waitpid(child, 0)
    assert a.held()
