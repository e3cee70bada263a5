"""`mta digest TEXT`: the keyed hash that privacy-policy puts in the place of a local part.

With the same key, an operator finds the records of one address without the address standing in them.
"""

from __future__ import annotations

import hashlib
import hmac

import click

from mta.cli.invocation import common_options, invocation

__all__ = ["digest", "siphash"]

_MASK = (1 << 64) - 1
SIPHASH_KEY = 16


@click.command()
@common_options
@click.option("--hmac-sha256", "kind", flag_value="hmac-sha256", help="HMAC with SHA-256 (RFC 2104).")
@click.option("--siphash", "kind", flag_value="siphash", default=True, help="SipHash-2-4 (the default).")
@click.option("--key", default="", help="The key, as text.")
@click.option("--hexkey", help="The key, in hexadecimal digits.")
@click.argument("text")
@click.pass_context
def digest(context: click.Context, kind: str, key: str, hexkey: str | None, text: str) -> None:
    """Hash TEXT as privacy-policy does with the local part of an address, and print it in hexadecimal."""
    try:
        secret = bytes.fromhex(hexkey) if hexkey is not None else key.encode()
    except ValueError:
        raise click.UsageError("--hexkey takes an even number of hexadecimal digits", context) from None
    octets = text.encode()
    if kind == "siphash":
        if len(secret) > SIPHASH_KEY:
            raise click.UsageError(f"a key of SipHash has at most {SIPHASH_KEY} octets", context)
        found = f"{siphash(secret, octets):016x}"
    else:
        found = hmac.digest(secret, octets, hashlib.sha256).hex()
    call = invocation(context)
    if call.as_json:
        call.output.json({"digest": found})
    else:
        click.echo(found)


def siphash(key: bytes, text: bytes) -> int:
    """SipHash-2-4 (Aumasson and Bernstein, 2012) of `text`; a short key is filled up with zeros."""
    k0 = int.from_bytes(key[:8].ljust(8, b"\0"), "little")
    k1 = int.from_bytes(key[8:16].ljust(8, b"\0"), "little")
    state = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    whole = len(text) - len(text) % 8
    last = text[whole:].ljust(7, b"\0") + bytes((len(text) & 0xFF,))
    for block in (*(text[at : at + 8] for at in range(0, whole, 8)), last):
        word = int.from_bytes(block, "little")
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[int], count: int) -> None:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = _rotated(v1, 13) ^ v0
        v0 = _rotated(v0, 32)
        v2 = (v2 + v3) & _MASK
        v3 = _rotated(v3, 16) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = _rotated(v3, 21) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = _rotated(v1, 17) ^ v2
        v2 = _rotated(v2, 32)
    state[:] = v0, v1, v2, v3


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK
