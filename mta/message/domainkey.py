"""DKIM key pairs as values: read from PEM, made new, and printed as the TXT record that publishes them.

Reading the file is the caller's job; nothing here touches the disk. RSA (RFC 6376, RFC 8301) and Ed25519
(RFC 8463) are the only kinds. Every function that reads a key raises ConfigError with a text that fits
behind the name of the key file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign, crypto_sign_BYTES

from mta.errors import ConfigError

__all__ = ["DkimKey", "PrivateKey", "generate_private_key", "parse_private_key", "private_pem", "txt_record"]

PrivateKey: TypeAlias = rsa.RSAPrivateKey | Ed25519PrivateKey

#: RFC 8301 3.2: signers must use at least 1024 bits; verifiers refuse anything smaller.
SMALLEST_RSA_KEY = 1024
#: From here on a signature costs so much (0.3 ms at 2048 bits) that it belongs in a thread.
SLOW_RSA_KEY = 1536
#: RFC 1035 3.3: one character string of a TXT record.
TXT_STRING_LENGTH = 255

#: What RSA signs by (RFC 6376 3.3.1): made once, a pair of them costs 8 us.
_PADDING: Final = padding.PKCS1v15()
_HASH: Final = hashes.SHA256()


@dataclass(frozen=True, slots=True, eq=False)
class DkimKey:
    """A private key and the selector under which its public half is published.

    `domain` is the domain of `domain-key`: what may sign with it, "*" for any.
    """

    selector: str
    domain: str
    private: PrivateKey
    #: The value of a= (RFC 6376 3.3, RFC 8463 3).
    algorithm: bytes = field(init=False)
    #: Whether a signature takes long enough to leave the event loop for it.
    is_slow: bool = field(init=False)
    #: The signature over the canonical form of a message; an RSA key lets other threads run meanwhile.
    sign: Callable[[bytes], bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        private = self.private
        if isinstance(private, rsa.RSAPrivateKey):
            known = b"rsa-sha256", private.key_size >= SLOW_RSA_KEY, _rsa_signing(private)
        else:
            known = b"ed25519-sha256", False, _ed25519_signing(private)
        for name, value in zip(("algorithm", "is_slow", "sign"), known, strict=True):
            object.__setattr__(self, name, value)

    def covers(self, domain: str) -> bool:
        """Whether this key may sign for a lower-case domain: its own, a sub-domain of it, or any."""
        return self.domain == "*" or domain == self.domain or domain.endswith("." + self.domain)

    def signing_domain(self, domain: str) -> str:
        """The value of d= when signing for `domain`."""
        return domain if self.domain == "*" else self.domain


def parse_private_key(text: bytes) -> PrivateKey:
    """Read a private key: PEM (PKCS#1 or PKCS#8), or the bare base64 seed that Ed25519 tools also write.

    Raises ConfigError when it is none of these, too short, protected by a password, or inconsistent.
    """
    if b"-----BEGIN" not in text:
        return _parse_seed(text)
    try:
        # The library's own consistency check takes 33 ms for 2048 bits, a start with 1,000 keys half a
        # minute; signing once and verifying proves what matters in a hundredth of that.
        key = serialization.load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise ConfigError("the key is protected by a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("not a private key in PEM form") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError("neither an RSA nor an Ed25519 key")
    if key.key_size < SMALLEST_RSA_KEY:
        raise ConfigError(f"{key.key_size} bits are too few: receivers ignore keys under {SMALLEST_RSA_KEY}")
    try:
        sample = key.sign(b"sample", _PADDING, _HASH)
        key.public_key().verify(sample, b"sample", _PADDING, _HASH)
    except (ValueError, InvalidSignature) as error:
        raise ConfigError("the parts of the RSA key do not fit together") from error
    return key


def generate_private_key(kind: str, bits: int = 2048) -> PrivateKey:
    """Make a new key; `kind` is rsa or ed25519, `bits` counts for RSA only.

    Raises ConfigError for another kind or too few bits.
    """
    if kind == "ed25519":
        return Ed25519PrivateKey.generate()
    if kind != "rsa":
        raise ConfigError(f"unknown kind of key {kind!r}: rsa or ed25519")
    if bits < SMALLEST_RSA_KEY:
        raise ConfigError(f"{bits} bits are too few: receivers ignore keys under {SMALLEST_RSA_KEY}")
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def private_pem(key: PrivateKey) -> bytes:
    """The key as a PKCS#8 PEM file, which every DKIM signer can read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def txt_record(key: PrivateKey) -> list[str]:
    """The TXT record to publish at SELECTOR._domainkey.DOMAIN, as character strings of at most 255 octets."""
    if isinstance(key, rsa.RSAPrivateKey):
        kind, public = (
            "rsa",
            key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )
    else:
        # RFC 8463 4.2: the bare 32 octets, not the ASN.1 around them.
        kind, public = "ed25519", key.public_key().public_bytes_raw()
    record = f"v=DKIM1; k={kind}; p={base64.b64encode(public).decode('ascii')}"
    return [record[at : at + TXT_STRING_LENGTH] for at in range(0, len(record), TXT_STRING_LENGTH)]


def _rsa_signing(key: rsa.RSAPrivateKey) -> Callable[[bytes], bytes]:
    return lambda canonical: key.sign(canonical, _PADDING, _HASH)


def _ed25519_signing(key: Ed25519PrivateKey) -> Callable[[bytes], bytes]:
    """By libsodium, which takes three fifths of OpenSSL's time for the same signature."""
    secret = key.private_bytes_raw() + key.public_key().public_bytes_raw()

    def sign(canonical: bytes) -> bytes:
        digest = hashlib.sha256(canonical).digest()  # RFC 8463 3: the hash is signed
        return crypto_sign(digest, secret)[:crypto_sign_BYTES]

    return sign


def _parse_seed(text: bytes) -> Ed25519PrivateKey:
    try:
        seed = base64.b64decode(text.strip(), validate=True)
        return Ed25519PrivateKey.from_private_bytes(seed)
    except (binascii.Error, ValueError) as error:
        raise ConfigError("neither a private key in PEM form nor the seed of an Ed25519 key") from error
