"""`mta dkim`: make a key, print the DNS record that publishes it, check the signatures of a message.

Verifying is left to dkimpy, which shares no code with our signer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from mta.cli.invocation import Exit, common_options, invocation
from mta.cli.output import Column
from mta.config.snapshot import DEFAULT_VMTA, Snapshot
from mta.errors import ConfigError
from mta.message.domainkey import PrivateKey, generate_private_key, parse_private_key, private_pem, txt_record

__all__ = ["dkim"]

#: Seconds for a DNS answer.
DNS_TIMEOUT = 5.0

#: Gives the TXT record of a name, b"" when there is none.
Lookup = Callable[[bytes], bytes]


class Verdict(NamedTuple):
    """What became of one signature."""

    domain: str
    selector: str
    algorithm: str
    is_valid: bool
    reason: str


@click.group()
@common_options
def dkim() -> None:
    """Make and check DKIM keys and signatures."""


@dkim.command()
@click.option("-d", "--domain", default="example.com", show_default=True, help="Domain that will sign.")
@click.option("-s", "--selector", default="mta", show_default=True, help="Name of the key in the DNS.")
@click.option("-t", "--type", "kind", type=click.Choice(["rsa", "ed25519"]), default="rsa", show_default=True)
@click.option("-b", "--bits", default=2048, show_default=True, help="Length of an RSA key.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write (SELECTOR.DOMAIN.pem).")
@common_options
@click.pass_context
def keygen(
    context: click.Context, domain: str, selector: str, kind: str, bits: int, output: Path | None
) -> None:
    """Make a private key, and print what to put into the DNS and into the configuration."""
    path = (output or Path(f"{selector}.{domain}.pem")).absolute()
    key = generate_private_key(kind, bits)
    try:
        # Never over an existing key: the old one may be the only copy.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private_pem(key))
    except OSError as error:
        raise click.ClickException(f"can't write {path}: {error.strerror}") from error
    line = f"domain-key {selector},{domain},{path}"
    out = invocation(context).output
    if out.as_json:
        record = "".join(txt_record(key))
        out.json({"file": str(path), "name": record_name(selector, domain), "record": record, "line": line})
        return
    out.say(f"private key  {path}\n\nfor the DNS:\n{zone_line(selector, domain, key)}\n")
    out.say(f"for the configuration, with dkim-sign yes in a <domain>:\n{line}")


@dkim.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("-d", "--domain", default="example.com", show_default=True)
@click.option("-s", "--selector", default="mta", show_default=True)
@common_options
@click.pass_context
def txt(context: click.Context, file: Path | None, domain: str, selector: str) -> None:
    """Print the DNS record of a private key; without FILE those of all keys in the configuration."""
    call = invocation(context)
    if file is not None:
        keys = [(selector, domain, _read_key(file))]
    else:
        loaded = call.load()
        if loaded.snapshot is None:
            raise ConfigError("\n".join(map(str, loaded.errors)))
        keys = list(_configured(loaded.snapshot))
    if call.as_json:
        call.output.json(
            [
                {"name": record_name(selector, domain), "record": "".join(txt_record(key))}
                for selector, domain, key in keys
            ]
        )
        return
    for selector, domain, key in keys:
        call.output.say(zone_line(selector, domain, key))


@dkim.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--record", "records", multiple=True, metavar="NAME=TEXT", help="Use this instead of the DNS.")
@click.option("--name-server", metavar="IP[:PORT]", help="Ask this server (default: the system's).")
@common_options
@click.pass_context
def verify(context: click.Context, file: BinaryIO, records: tuple[str, ...], name_server: str | None) -> int:
    """Check every DKIM signature of a message in FILE or on standard input.

    Leaves with 0 when all signatures are right, with 65 when one is wrong or there is none.
    """
    lookup = _given(records) if records else dns_lookup(name_server)
    verdicts = list(verify_all(file.read(), lookup))
    out = invocation(context).output
    is_good = bool(verdicts) and all(verdict.is_valid for verdict in verdicts)
    if out.as_json:
        out.json([verdict._asdict() for verdict in verdicts], is_success=is_good)
    elif not verdicts:
        click.echo("the message has no DKIM signature", err=True)
    else:
        columns = [
            Column("domain"),
            Column("selector"),
            Column("algorithm"),
            Column("result"),
            Column("reason"),
        ]
        out.table(columns, [(*one[:3], "pass" if one.is_valid else "fail", one.reason) for one in verdicts])
    return 0 if is_good else Exit.DATA


def verify_all(message: bytes, lookup: Lookup) -> Iterator[Verdict]:
    """The verdict on each signature of a message, from the top."""
    # Imported here: it takes longer to load than the other commands take to run.
    import dkim as dkimpy
    from dkim.util import InvalidTagValueList, parse_tag_value

    quiet = logging.getLogger(f"{__name__}.quiet")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    records: list[bytes] = []

    def remembered(name: bytes, timeout: float = 0.0) -> bytes:
        records.append(lookup(name))
        return records[-1]

    try:
        fields = dkimpy.rfc822_parse(message)[0]
    except dkimpy.MessageFormatError as error:
        yield Verdict("", "", "", False, str(error))
        return
    signatures = [value for name, value in fields if name.lower() == b"dkim-signature"]
    for number, field in enumerate(signatures):
        tags: dict[bytes, bytes] = {}
        reason = ""
        records.clear()
        try:
            tags = parse_tag_value(field)
            if not dkimpy.DKIM(message, logger=quiet).verify(idx=number, dnsfunc=remembered):
                reason = "the signature does not fit the header" if all(records) else "no key in the DNS"
        except InvalidTagValueList:
            reason = "the tags can't be read"
        except dkimpy.DKIMException as error:
            reason = str(error) or type(error).__name__
        domain, selector, algorithm = (_text(tags.get(tag, b"")) for tag in (b"d", b"s", b"a"))
        yield Verdict(domain, selector, algorithm, not reason, reason)


def record_name(selector: str, domain: str) -> str:
    """Where verifiers look for a key (RFC 6376 3.6.2.1)."""
    return f"{selector}._domainkey.{'DOMAIN' if domain == '*' else domain}"


def zone_line(selector: str, domain: str, key: PrivateKey) -> str:
    """The record as a line of a zone file; long ones are several strings, which the DNS joins."""
    strings = " ".join(f'"{text}"' for text in txt_record(key))
    return f"{record_name(selector, domain)}. IN TXT ( {strings} )"


def _read_key(path: Path) -> PrivateKey:
    try:
        return parse_private_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _configured(snapshot: Snapshot) -> Iterator[tuple[str, str, PrivateKey]]:
    seen: set[tuple[str, str, str]] = set()
    for vmta in (DEFAULT_VMTA, *snapshot.vmtas):
        for line in snapshot.domain_keys(vmta):
            place = (line.selector, line.domain, line.path)
            if place not in seen:
                seen.add(place)
                yield line.selector, line.domain, _read_key(Path(line.path))


def _given(records: tuple[str, ...]) -> Lookup:
    known = dict(record.partition("=")[::2] for record in records)
    return lambda name: known.get(_text(name).rstrip("."), "").encode()


def dns_lookup(name_server: str | None = None) -> Lookup:
    """Ask a name server (`IP` or `IP:PORT`), or those of the system; a failure counts as "no such record"."""
    import dns.exception
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=name_server is None)
    if name_server is not None:
        host, colon, port = (
            name_server.rpartition(":") if name_server.count(":") == 1 else (name_server, "", "")
        )
        resolver.nameservers = [host]
        resolver.port = int(port) if colon else 53

    def look_up(name: bytes) -> bytes:
        try:
            answer = resolver.resolve(_text(name), "TXT", lifetime=DNS_TIMEOUT)
        except dns.exception.DNSException:
            return b""
        return b"".join(next(iter(answer)).strings)

    return look_up


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
