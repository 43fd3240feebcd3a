"""Certificates can be exchanged while programs run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joblease.reconnecting import Link
from joblease.settings import BrokerSettings
from pydantic import SecretStr


def authority(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def trusted(link: Link) -> str:
    return str(link.connection.kwargs["context"].get_ca_certs())


async def test_a_new_connection_reads_the_brokers_authority_anew(tmp_path: Path) -> None:
    """The kubelet exchanges the files of a mounted Secret; a program that had read them once would need a restart."""
    file = tmp_path / "ca.crt"
    file.write_bytes(authority("old"))
    settings = BrokerSettings(amqp_url=SecretStr("amqps://broker/"), amqp_ca_file=file)
    assert "old" in trusted(Link.new(settings, "test"))
    file.write_bytes(authority("new"))
    assert "new" in trusted(Link.new(settings, "test"))
