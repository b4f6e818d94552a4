"""Certificates made for a test: two authorities, servers good and bad, a client."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["KEY_PASSWORD", "Certificates", "make_certificates"]

KEY_PASSWORD = "s3cret-of-the-key"


@dataclass(frozen=True)
class Certificates:
    """PEM files. A server's has key and chain in one; a client's key is encrypted."""

    ca: str
    other_ca: str
    server: str
    expired: str
    elsewhere: str
    client: str
    client_key: str


def make_certificates(folder: Path, client_name: str) -> Certificates:
    """Write them; the good server's are for localhost and 127.0.0.1."""
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    here = ("localhost", "127.0.0.1")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    servers = {
        "server": ca.issue_cert(*here),
        "expired": ca.issue_cert(
            *here, not_before=yesterday - timedelta(days=1), not_after=yesterday
        ),
        "elsewhere": ca.issue_cert("elsewhere.example"),
    }
    for name, made in servers.items():
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(_pkcs8(made, NoEncryption()) + chain)
    client = ca.issue_cert("client.example", common_name=client_name)
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    encrypted = _pkcs8(client, BestAvailableEncryption(KEY_PASSWORD.encode()))
    (folder / "client.key").write_bytes(encrypted)
    return Certificates(
        ca=str(folder / "ca.pem"),
        other_ca=str(folder / "other-ca.pem"),
        server=str(folder / "server.pem"),
        expired=str(folder / "expired.pem"),
        elsewhere=str(folder / "elsewhere.pem"),
        client=str(folder / "client.pem"),
        client_key=str(folder / "client.key"),
    )


def _pkcs8(made: trustme.LeafCert, encryption: KeySerializationEncryption) -> bytes:
    """The key in the only form that Kafka reads."""
    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
