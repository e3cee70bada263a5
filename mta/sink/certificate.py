"""A self-signed certificate made on the fly, for servers that only tests and the demonstration talk to."""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["self_signed", "server_context"]

#: From long ago until far away, so that no clock makes a test fail.
BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2049, 1, 1, tzinfo=datetime.UTC)


def self_signed(
    hosts: Iterable[str], *, begin: datetime.datetime = BEGIN, end: datetime.datetime = END
) -> tuple[bytes, bytes]:
    """Certificate and private key (PEM) for the host names given; the first is the subject."""
    names = list(hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def server_context(hosts: Iterable[str] = ("localhost",)) -> ssl.SSLContext:
    """A server's TLS settings with a certificate of its own for these hosts."""
    certificate, key = self_signed(hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        # OpenSSL reads certificates from files only.
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + certificate)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
    return context
