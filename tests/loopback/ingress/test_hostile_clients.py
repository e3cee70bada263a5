"""Every way that we know of to abuse a mail server from a client, over real sockets, with its end.

The cases carry the letters of the project's catalogue: P protocol, R resources, L loops. After each row the
connection's memory and slot are free, and somebody else is served.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mta.config.load import load_text
from mta.ingress.listener import server_tls
from tests.support.certificate import write_certificate
from tests.support.hostile_client import DATA, ENVELOPE, HELLO, Row, blob, heard, smuggled
from tests.support.inbound import Inbound, snapshot_of

MESSAGE = b"From: a@b.example\r\nSubject: x\r\n\r\nText.\r\n.\r\n"

#: Marks at which some servers have ended a message; to us they are content that can't be.
MARKS = {
    "LF.LF": b"\n.\n",
    "LF.CR": b"\n.\r",
    "CR.LF": b"\r.\n",
    "CR.CR": b"\r.\r",
    "LF.CRLF": b"\n.\r\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NUL CRLF": b"\r\n.\0\r\n",
    "CRLF.CR CRLF": b"\r\n.\r\r\n",
    "CR CRLF.CR CRLF": b"\r\r\n.\r\r\n",
    "LF LF.LF": b"\n\n.\n",
}
#: Marks that are text like any other.
TEXT = {
    "VT.VT": b"\x0b.\x0b",
    "FF.FF": b"\x0c.\x0c",
    "NEL.NEL": b"\xc2\x85.\xc2\x85",
    "U+2028.": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "CRLF..CRLF": b"\r\n..\r\n",
    "CRLF.SP CRLF": b"\r\n. \r\n",
}
CLOSED = "always-allow-relaying no\nallow-unencrypted-plain-auth yes"
GUARDED = "always-allow-relaying yes\nrequire-auth yes\nallow-unencrypted-plain-auth yes"
STARTTLS = "always-allow-relaying yes\nallow-starttls yes"


def bdat(content: bytes, *, last: bool = True) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(content), b" LAST" if last else b"", content)


def rcpt(*addresses: bytes) -> bytes:
    return b"".join(b"RCPT TO:%b\r\n" % address for address in addresses)


MAIL = HELLO + b"MAIL FROM:<a@b.example>\r\n"

SMUGGLING = [
    *(
        Row("P1", f"{name} in DATA", DATA + smuggled(mark), "250 250 250 354 550")
        for name, mark in MARKS.items()
    ),
    *(
        Row("P1", f"{name} in BDAT", ENVELOPE + bdat(smuggled(mark)), "250 250 250 550")
        for name, mark in MARKS.items()
    ),
    *(
        Row("P1", f"{name} in DATA is text", DATA + smuggled(mark), "250 250 250 354 250", stored=1)
        for name, mark in TEXT.items()
    ),
    Row(
        "P1",
        "CRLF.CRLF in BDAT is text",
        ENVELOPE + bdat(smuggled(b"\r\n.\r\n")),
        "250 250 250 250",
        stored=1,
    ),
    Row(
        "P1",
        "CRLF.CRLF over two chunks is text",
        ENVELOPE + bdat(b"A: b\r\n\r\nx\r\n.", last=False) + bdat(b"\r\nMAIL FROM:<e@x.example>\r\n"),
        "250 250 250 250 250",
        stored=1,
    ),
    Row(
        "P1",
        "bare LF split over chunks",
        ENVELOPE + bdat(b"A: b\r", last=False) + bdat(b"x\n"),
        "250 250 250 250 550",
    ),
    Row(
        "P1",
        "dot of the end in the command line",
        DATA + b"\r\n.\r\n" * 2,
        "250 250 250 354 250 500 500",
        stored=1,
    ),
]

TLS = [
    Row(
        "P3",
        "RSET behind STARTTLS",
        HELLO + b"STARTTLS\r\nRSET\r\n",
        "250 421",
        True,
        source=STARTTLS,
        tls=True,
    ),
    Row(
        "P3",
        "a message behind STARTTLS",
        HELLO + b"STARTTLS\r\n" + DATA + MESSAGE,
        "250 421",
        True,
        source=STARTTLS,
        tls=True,
    ),
    Row(
        "P3",
        "one octet behind STARTTLS",
        HELLO + b"STARTTLS\r\n\x16",
        "250 421",
        True,
        source=STARTTLS,
        tls=True,
    ),
    Row("P3", "STARTTLS with an argument", HELLO + b"STARTTLS x\r\n", "250 501", source=STARTTLS, tls=True),
    Row("P3", "STARTTLS that was not offered", HELLO + b"STARTTLS\r\n", "250 502"),
    Row(
        "P3",
        "AUTH in clear where TLS is there",
        HELLO + b"AUTH PLAIN x\r\n",
        "250 538",
        source=STARTTLS,
        tls=True,
    ),
]

FOREIGN = [
    *(
        Row("P5", name, talk, "421", True)
        for name, talk in {
            "HTTP GET": b"GET / HTTP/1.1\r\nHost: mx\r\n\r\n",
            "HTTP POST with commands": b"POST / HTTP/1.1\r\nHost: mx\r\n\r\n" + DATA + MESSAGE,
            "HTTP PUT": b"PUT /x HTTP/1.0\r\n\r\n",
            "HTTP CONNECT": b"CONNECT mx:25 HTTP/1.1\r\n\r\n",
            "HTTP OPTIONS": b"OPTIONS * HTTP/1.1\r\n\r\n",
            "HTTP HEAD": b"HEAD / HTTP/1.0\r\n\r\n",
            "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PROXY from a stranger": b"PROXY TCP4 192.0.2.9 192.0.2.25 1 25\r\n" + DATA + MESSAGE,
            "HTTP in lower case": b"get / http/1.1\r\n\r\n",
        }.items()
    ),
    Row("P5", "PROXY version 2", b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\r\n", "500 500 501 500 501"),
    Row("P5", "TLS on the plain port", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n", "501"),
    Row("P5", "SSH on the port", b"SSH-2.0-OpenSSH_9.9\r\n", "500"),
    Row("P5", "SIP", b"OPTIONS sip:a@b SIP/2.0\r\n", "421", True),
    Row("P5", "DATA and content in one packet", DATA + MESSAGE, "250 250 250 354 250", stored=1),
    Row("P5", "content behind a refused DATA", HELLO + b"DATA\r\nQUIT\r\n.\r\n", "250 503 221", True),
]


CONTROL = {"NUL": b"\0", "CR": b"\r", "TAB": b"\t", "ESC": b"\x1b", "DEL": b"\x7f", "BS": b"\x08"}
OCTETS = [
    *(
        Row(
            "P6",
            f"{name} in the commands",
            b"EHLO a%bb\r\nMAIL FROM:<a%b@b.example>\r\nNO%bOP\r\n" % ((octet,) * 3),
            "501 501 501",
        )
        for name, octet in CONTROL.items()
    ),
    Row("P6", "bare LF ends no command", HELLO + b"NOOP\nRSET\nNOOP\r\n", "250 500 500 250"),
    Row("P6", "bare CR ends no command", HELLO + b"NOOP\rRSET\r\n", "250 501"),
    Row("P6", "8 bits in a command", HELLO + b"MAIL FROM:<\xe5@b.example>\r\nN\xe5OP\r\n", "250 501 500"),
    Row("P6", "broken UTF-8 with SMTPUTF8", HELLO + b"MAIL FROM:<\xc3@b.example> SMTPUTF8\r\n", "250 501"),
    Row("P6", "NUL in the content", DATA + b"A: b\r\n\r\nx\0y\r\n.\r\n", "250 250 250 354 550"),
    Row("P7", "line end in ENVID", HELLO + b"MAIL FROM:<a@b.example> ENVID=x+0D+0AEvil:+20y\r\n", "250 501"),
    Row("P7", "NUL in ENVID", HELLO + b"MAIL FROM:<a@b.example> ENVID=x+00\r\n", "250 501"),
    Row("P7", "line end in ORCPT", MAIL + b"RCPT TO:<c@d.example> ORCPT=rfc822;x+0Ay\r\n", "250 250 501"),
    Row(
        "P7", "bad hexadecimal in ORCPT", MAIL + b"RCPT TO:<c@d.example> ORCPT=rfc822;x+GG\r\n", "250 250 501"
    ),
    Row("P7", "blanks in the host name", b"EHLO a b\r\nEHLO \r\nHELO <x>\r\n", "501 501 250"),
    Row("P7", "very long host name", b"EHLO " + b"a" * 256 + b"\r\n", "501"),
    Row("P7", "host name that is a log line", b"EHLO x\x0aerror\r\n", "500 500"),
    Row(
        "P7",
        "x-job with an encoded line end",
        DATA + b"X-Job: =?utf-8?q?a=0Ab?=\r\n\r\n.\r\n",
        "250 250 250 354 250",
        stored=1,
    ),
    Row(
        "P7",
        "x-virtual-mta that is not there",
        DATA + b"X-Virtual-MTA: nobody\r\n\r\n.\r\n",
        "250 250 250 354 550",
    ),
    Row(
        "P7",
        "x-virtual-mta with control octets",
        DATA + b"X-Virtual-MTA: a\x1bb\r\n\r\n.\r\n",
        "250 250 250 354 550",
    ),
    Row(
        "P8",
        "8-bit content without BODY",
        DATA + b"A: b\r\n\r\n\xe5\xff\r\n.\r\n",
        "250 250 250 354 250",
        stored=1,
    ),
    Row("P8", "BINARYMIME", HELLO + b"MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n", "250 555"),
]


def body(*lines: bytes) -> bytes:
    return DATA + b"A: b\r\n\r\n" + b"\r\n".join(lines) + b"\r\n.\r\n"


FIVE = "250 250 250 354 "
SIZES = [
    Row("P10", "line of 998 octets", body(b"x" * 998), FIVE + "250", stored=1),
    Row("P10", "line of 999 octets", body(b"x" * 999), FIVE + "550"),
    Row("P10", "doubled dot does not count", body(b".." + b"x" * 997), FIVE + "250", stored=1),
    Row("P10", "line of 60 KiB", body(b"x" * 60_000), FIVE + "550"),
    Row("P10", "header line of 999 octets", DATA + b"A: " + b"x" * 996 + b"\r\n\r\n.\r\n", FIVE + "550"),
    Row("P11", "line without an end", DATA + b"x" * 90_000 + b"\r\n.\r\n", FIVE + "550"),
    Row("P11", "beyond the size limit", body(*[b"x" * 70] * 1500), FIVE + "552"),
    Row("P11", "on and on behind the size limit", body(*[b"x" * 70] * 9000), FIVE + "552", True),
    Row("P12", "empty lines", body(*[b""] * 45_000), FIVE + "250", stored=1),
    Row("P12", "headers of three octets", DATA + b"A:b\r\n" * 19_000 + b"\r\n.\r\n", FIVE + "250", stored=1),
    Row("P12", "lines of one dot each", body(*[b".."] * 20_000), FIVE + "250", stored=1),
    Row(
        "P13",
        "SIZE too small",
        HELLO
        + b"MAIL FROM:<a@b.example> SIZE=10\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
        + b"A: b\r\n\r\n"
        + b"x" * 900
        + b"\r\n.\r\n",
        FIVE + "250",
        stored=1,
    ),
    Row("P13", "SIZE above the limit", HELLO + b"MAIL FROM:<a@b.example> SIZE=102401\r\n", "250 552"),
    Row(
        "P13",
        "SIZE of twenty digits",
        HELLO + b"MAIL FROM:<a@b.example> SIZE=99999999999999999999\r\n",
        "250 552",
    ),
    *(
        Row(
            "P13", f"SIZE={value.decode()}", HELLO + b"MAIL FROM:<a@b.example> SIZE=%b\r\n" % value, "250 501"
        )
        for value in (b"", b"-1", b"1_0", b"0x10", b"1e3", b"999999999999999999999", b"+5", b"1.0")
    ),
    Row("P13", "SIZE twice", HELLO + b"MAIL FROM:<a@b.example> SIZE=1 SIZE=2\r\n", "250 501"),
    Row("P13", "BDAT beyond the limit", ENVELOPE + bdat(b"x" * 102_500), "250 250 250 552"),
    Row("P13", "BDAT far beyond the limit", ENVELOPE + b"BDAT 300000 LAST\r\n", "250 250 250 552", True),
    Row("P13", "BDAT of twenty digits", ENVELOPE + b"BDAT 99999999999999999999\r\n", "250 250 250 501", True),
    Row("P13", "BDAT of minus one", ENVELOPE + b"BDAT -1\r\nQUIT\r\n", "250 250 250 501", True),
    Row(
        "P13",
        "chunks that pass the limit together",
        ENVELOPE + (b"BDAT 60000\r\n" + b"x" * 59_998 + b"\r\n") * 2,
        "250 250 250 550 503",
    ),
    Row(
        "P14",
        "one recipient too many",
        MAIL + rcpt(*[b"<c%d@d.example>" % n for n in range(6)]),
        "250 250" + " 250" * 5 + " 452",
    ),
    Row(
        "P14",
        "fifty recipients too many",
        MAIL + rcpt(*[b"<c@d.example>"] * 55),
        "250 250" + " 250" * 5 + " 452" * 50,
    ),
    Row(
        "P14",
        "a thousand bad recipients",
        MAIL + rcpt(*[b"<bad>"] * 1002),
        "250 250" + " 501" * 1001 + " 421",
        True,
    ),
    Row(
        "P14",
        "100,000 recipients",
        MAIL + rcpt(b"<c@d.example>") * 100_000,
        "250 250" + " 250" * 5 + " 452" * 1001 + " 421",
        True,
    ),
    Row("P6", "command of 4 KiB", HELLO + b"NOOP " + b"x" * 4096 + b"\r\n", "250 500"),
    Row("P6", "command of 12 KiB", HELLO + b"MAIL FROM:<" + b"x" * 12_000 + b"@b>\r\n", "250 500"),
    Row("R1", "command without an end", HELLO + b"x" * 40_000, "250 421", True),
]

ORDER = [
    Row("P15", "MAIL before EHLO", b"MAIL FROM:<a@b.example>\r\n", "503"),
    Row("P15", "RCPT before MAIL", HELLO + b"RCPT TO:<c@d.example>\r\n", "250 503"),
    Row("P15", "DATA before RCPT", MAIL + b"DATA\r\n", "250 250 554"),
    Row("P15", "DATA before MAIL", HELLO + b"DATA\r\n", "250 503"),
    Row("P15", "MAIL twice", MAIL + b"MAIL FROM:<x@b.example>\r\n", "250 250 503"),
    Row("P15", "EHLO forgets the envelope", ENVELOPE + b"EHLO y\r\nDATA\r\n", "250 250 250 250 503"),
    Row("P15", "RSET forgets the envelope", ENVELOPE + b"RSET\r\nDATA\r\n", "250 250 250 250 503"),
    Row("P15", "AUTH inside a transaction", MAIL + b"AUTH PLAIN\r\n", "250 250 503"),
    Row(
        "P15",
        "DATA between chunks",
        ENVELOPE + bdat(b"A: b\r\n", last=False) + b"DATA\r\n",
        "250 250 250 250 503",
    ),
    Row(
        "P15",
        "RCPT between chunks",
        ENVELOPE + bdat(b"A: b\r\n", last=False) + rcpt(b"<x@d.example>"),
        "250 250 250 250 503",
    ),
    Row(
        "P15",
        "MAIL between chunks",
        ENVELOPE + bdat(b"A: b\r\n", last=False) + b"MAIL FROM:<x@b.example>\r\n",
        "250 250 250 250 503",
    ),
    Row("P15", "empty last chunk", ENVELOPE + b"BDAT 0 LAST\r\n", "250 250 250 250", stored=1),
    Row("P15", "chunk without an envelope", HELLO + bdat(b"A: b\r\n\r\n"), "250 503"),
    Row("P15", "chunk that holds commands without an envelope", HELLO + bdat(b"QUIT\r\n"), "250 503"),
    Row("P15", "BDAT with another word", ENVELOPE + b"BDAT 5 FIRST\r\n", "250 250 250 501", True),
    Row("P15", "DATA with an argument", ENVELOPE + b"DATA now\r\n", "250 250 250 501"),
    Row("P15", "RSET and QUIT with arguments", b"RSET x\r\nQUIT x\r\n", "501 501"),
    Row(
        "P15",
        "unknown parameters",
        HELLO + b"MAIL FROM:<a@b.example> X=1\r\n" + MAIL + b"RCPT TO:<c@d.example> SIZE=1\r\n",
        "250 555 250 250 555",
    ),
    Row("P15", "text behind the address", HELLO + b"MAIL FROM:<a@b.example>SIZE=1\r\n", "250 501"),
    Row("P15", "a hundred NOOPs", b"NOOP\r\n" * 105, "250 " * 101 + "421", True),
    Row("P15", "a hundred RSETs", b"RSET\r\n" * 105, "250 " * 101 + "421", True),
    Row("P15", "a hundred VRFYs", b"VRFY root\r\n" * 105, "252 " * 101 + "421", True),
    Row("P15", "a hundred EHLOs", HELLO * 105, "250 " * 100 + "421", True),
    Row("P15", "a hundred HELPs", b"HELP\r\n" * 105, "214 " * 101 + "421", True),
    Row("P15", "twenty unknown commands", b"FROB\r\n" * 30, "500 " * 21 + "421", True),
    Row("P15", "twenty bad senders", HELLO + b"MAIL FROM:<a\r\n" * 30, "250 " + "501 " * 21 + "421", True),
    Row("P15", "empty lines", b"\r\n" * 30, "500 " * 21 + "421", True),
    Row("P15", "dots", b".\r\n" * 30, "500 " * 21 + "421", True),
    Row("R6", "VRFY and EXPN tell nothing", HELLO + b"VRFY root\r\nEXPN staff\r\n", "250 252 502"),
    Row(
        "P15",
        "commands of other times",
        HELLO + b"TURN\r\nETRN x\r\nSEND FROM:<a@b>\r\nSAML FROM:<a@b>\r\n",
        "250 502 502 502 502",
    ),
    Row(
        "P17", "XCLIENT and XFORWARD", HELLO + b"XCLIENT ADDR=192.0.2.9\r\nXFORWARD NAME=x\r\n", "250 502 502"
    ),
    Row(
        "P17",
        "x-virtual-mta of an untrusted source is text",
        DATA + b"X-Virtual-MTA: nobody\r\n\r\n.\r\n",
        FIVE + "250",
        stored=1,
        source="always-allow-relaying yes",
    ),
]

_BAD = {
    "two at signs": b"<a@b@c.example>",
    "no at sign": b"<a>",
    "no local part": b"<@d.example>",
    "no domain": b"<a@>",
    "no brackets": b"a@d.example",
    "no closing bracket": b"<a@d.example",
    "blank inside": b"<a b@d.example>",
    "blank in the domain": b"<a@d example>",
    "leading dot": b"<.a@d.example>",
    "trailing dot": b"<a.@d.example>",
    "double dot": b"<a..b@d.example>",
    "double dot in the domain": b"<a@d..example>",
    "domain with a leading dot": b"<a@.d.example>",
    "domain with a trailing dot": b"<a@d.example.>",
    "label with a leading hyphen": b"<a@-d.example>",
    "label of 64": b"<a@" + b"d" * 64 + b".example>",
    "domain of 256": b"<a@" + b"d." * 124 + b"example1>",
    "local part of 65": b"<" + b"a" * 65 + b"@d.example>",
    "open quote": b'<"a@d.example>',
    "quote in the middle": b'<a"b"c@d.example>',
    "backslash at the end": b'<"a\\"@d.example>',
    "comment": b"<a(x)@d.example>",
    "list": b"<a@d.example,b@d.example>",
    "digits only": b"<a@192.0.2.1>",
    "open literal": b"<a@[192.0.2.1>",
    "literal out of range": b"<a@[192.0.2.256]>",
    "literal with a zone": b"<a@[IPv6:fe80::1%eth0]>",
    "empty path": b"<>",
    "broken source route": b"<@a,b:c@d.example>",
    "parameter without a blank": b"<a@d.example>NOTIFY=NEVER",
    "pipe": b"<|/bin/sh>",
    "angle brackets inside": b"<a<b>@d.example>",
}
ADDRESSES = [Row("P16", name, MAIL + rcpt(address), "250 250 501") for name, address in _BAD.items()]

_RELAYS = (
    b"<victim@other.example>",
    b"<@home.example:victim@other.example>",
    b"<victim%other.example@home.example>",
    b"<other.example!victim@home.example>",
    b'<"victim@other.example"@home.example>',
    b'<"victim%other.example"@home.example>',
    b"<victim@[127.0.0.1]>",
    b"<victim@[IPv6:::1]>",
    b"<victim@localhost>",
    b"<victim@home.example.other.example>",
    b"<victim@HOME.EXAMPLE.other>",
)
RELAYS = [
    *(
        Row(
            "R5",
            f"relay to {address.decode()}",
            MAIL + rcpt(address),
            "250 250 550",
            source=CLOSED,
            text="relay-domain home.example",
        )
        for address in _RELAYS
    ),
    Row(
        "R5",
        "relay from nobody",
        HELLO + b"MAIL FROM:<>\r\n" + rcpt(b"<victim@other.example>"),
        "250 250 550",
        source=CLOSED,
        text="",
    ),
    Row(
        "R5",
        "relay from a home address",
        HELLO + b"MAIL FROM:<root@home.example>\r\n" + rcpt(b"<v@other.example>"),
        "250 250 550",
        source=CLOSED,
        text="relay-domain home.example",
    ),
    Row(
        "R5",
        "empty configuration relays nothing",
        MAIL + rcpt(b"<c@d.example>") + b"DATA\r\n",
        "250 250 550 554",
        source="",
        text="",
    ),
    Row(
        "R5", "our own host name is ours", MAIL + rcpt(b"<x@mx.test>"), "250 250 250", source=CLOSED, text=""
    ),
    Row("R5", "source that is not served", b"", "", True, source="smtp-service no"),
]

_LOGINS = {
    "unknown mechanism": (b"AUTH CRAM-MD5\r\n", "250 504"),
    "mechanism in 8 bits": (b"AUTH PL\xc4IN\r\n", "250 504"),
    "no base64": (b"AUTH PLAIN !!!!\r\n", "250 501"),
    "one field": (b"AUTH PLAIN " + blob("app") + b"\r\n", "250 501"),
    "four fields": (b"AUTH PLAIN " + blob("", "app", "s3cret", "x") + b"\r\n", "250 501"),
    "empty fields": (b"AUTH PLAIN " + blob("", "", "") + b"\r\n", "250 535"),
    "wrong password": (b"AUTH PLAIN " + blob("", "app", "wrong") + b"\r\n", "250 535"),
    "unknown user": (b"AUTH PLAIN " + blob("", "nobody", "s3cret") + b"\r\n", "250 535"),
    "another's identity": (b"AUTH PLAIN " + blob("root", "nobody", "s3cret") + b"\r\n", "250 535"),
    "cancelled": (b"AUTH PLAIN\r\n*\r\n", "250 334 501"),
    "empty answer": (b"AUTH PLAIN\r\n\r\n", "250 334 501"),
    "NUL in the name": (b"AUTH LOGIN\r\n" + blob("a\0b") + b"\r\n" + blob("x") + b"\r\n", "250 334 334 535"),
    "commands as answers": (b"AUTH LOGIN\r\nMAIL FROM:<a@b.example>\r\n", "250 334 501"),
    "more than one blank": (b"AUTH PLAIN a b\r\n", "250 501"),
    "answer of 12 KiB": (b"AUTH PLAIN\r\n" + b"A" * 12_400 + b"\r\n*\r\n", "250 334 500 501"),
    "a megabyte of base64": (b"AUTH PLAIN\r\n" + b"A" * 1_000_000, "250 334 421"),
    "password of 9 KiB": (b"AUTH PLAIN " + blob("", "app", "x" * 9000) + b"\r\n", "250 535"),
    "three guesses": ((b"AUTH PLAIN " + blob("", "app", "guess") + b"\r\n") * 5, "250 535 535 535 421"),
    "twice": ((b"AUTH PLAIN " + blob("", "app", "s3cret") + b"\r\n") * 2, "250 235 503"),
    "mail without login": (b"MAIL FROM:<a@b.example>\r\n", "250 530"),
}
LOGINS = [
    Row(
        "R7" if "wrong" not in name else "R6",
        f"login: {name}",
        HELLO + talk,
        codes,
        codes.endswith("421"),
        source=GUARDED,
    )
    for name, (talk, codes) in _LOGINS.items()
]

_HOP = b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
MESSAGES = [
    Row("L1", "as many hops as allowed", DATA + _HOP * 3 + b"\r\n.\r\n", FIVE + "250", stored=1),
    Row("L1", "one hop too many", DATA + _HOP * 4 + b"\r\n.\r\n", FIVE + "554"),
    Row(
        "L1",
        "hops in odd writing",
        DATA + b"RECEIVED: x\r\nreceived:x\r\nReceived: x\r\nReceiVED: x\r\n\r\n.\r\n",
        FIVE + "554",
    ),
    Row(
        "L1",
        "hops in the body are text",
        DATA + b"A: b\r\n\r\n" + _HOP * 9 + b".\r\n",
        FIVE + "250",
        stored=1,
    ),
    Row(
        "L3",
        "from nobody to somebody",
        HELLO + b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + MESSAGE,
        FIVE + "250",
        stored=1,
    ),
    Row("P18", "no header", DATA + b"\r\ntext\r\n.\r\n", FIVE + "250", stored=1),
    Row("P18", "nothing at all", DATA + b".\r\n", FIVE + "250", stored=1),
    Row("P18", "header without a colon", DATA + b"no colon here\r\n\r\n.\r\n", FIVE + "250", stored=1),
    Row("P18", "folded first line", DATA + b" folded: x\r\n\r\n.\r\n", FIVE + "250", stored=1),
    Row(
        "P18",
        "mailbox line first",
        DATA + b"From a@b Thu Jan  1 00:00:00 2026\r\nA: b\r\n\r\n.\r\n",
        FIVE + "250",
        stored=1,
    ),
    Row("P18", "colon first", DATA + b": x\r\n\r\n.\r\n", FIVE + "250", stored=1),
    Row(
        "P18", "a header of nothing but 8 bits", DATA + b"\xff\xfe: \xfd\r\n\r\n.\r\n", FIVE + "250", stored=1
    ),
    Row(
        "P18", "ten Message-IDs", DATA + b"Message-ID: <x@y>\r\n" * 10 + b"\r\n.\r\n", FIVE + "250", stored=1
    ),
    Row(
        "P18",
        "ninety thousand octets of one folded field",
        DATA + b"A: b\r\n" + b" x\r\n" * 22_000 + b"\r\n.\r\n",
        FIVE + "250",
        stored=1,
    ),
    Row(
        "P18",
        "Bcc with a thousand commas",
        DATA + b"Bcc: " + b"," * 900 + b"\r\n\r\n.\r\n",
        FIVE + "250",
        stored=1,
    ),
]

ROWS = [*SMUGGLING, *TLS, *FOREIGN, *OCTETS, *SIZES, *ORDER, *ADDRESSES, *RELAYS, *LOGINS, *MESSAGES]


def test_the_table_is_as_long_as_promised() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS)
    assert len({(row.talk, row.source) for row in ROWS}) == len(ROWS)
    assert len(ROWS) >= 120


@pytest.mark.both_loops
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_hostile_client(row: Row, tmp_path: Path) -> None:
    context: ssl.SSLContext | None = None
    if row.tls:
        loaded = load_text(f"smtp-server-tls-certificate {write_certificate(tmp_path)}")
        assert loaded.snapshot is not None
        context = server_tls(loaded.snapshot)
    async with Inbound(row.text, source=row.source, tls=context) as inbound:
        async with inbound.caller() as caller:
            caller.send(row.talk)
            codes = await heard(caller, len(row.codes.split()))
            # Whoever talks on behind our last word gets a reset, and may lose what was said before.
            assert codes == row.codes.strip() or (
                row.ends and len(row.talk) > 100_000 and row.codes.startswith(codes)
            )
            if row.ends:
                assert await caller.is_closed()
            else:
                assert (await caller.ask("RSET")).startswith("250")
        inbound.snapshot = snapshot_of(epoch=2)
        async with inbound.caller() as caller:
            await caller.envelope()
            assert (await caller.content(MESSAGE[:-3])).startswith("250")

        assert len(inbound.partition.stored) == row.stored + 1
        assert inbound.reception.receiving == 0
        assert {envelope.recipients[0].address for envelope in inbound.partition.envelopes[:-1]} <= {
            "c@d.example"
        }
