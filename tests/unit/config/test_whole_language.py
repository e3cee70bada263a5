"""Every name of the language, in its block and with a fitting value, makes a configuration without errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.config.blocks import BLOCKS
from mta.config.directives import TABLE, Directive, Kind, Scope, Status
from mta.config.load import load_text

NAMES = Path(__file__).with_name("powermta_names.txt")

#: A value that every kind takes.
SAMPLES = {
    Kind.BOOLEAN: "yes",
    Kind.INTEGER: "10",
    Kind.PERCENT: "50",
    Kind.INTERVAL: "5m",
    Kind.INTERVALS: "10m,1h",
    Kind.RATE: "250/h",
    Kind.SIZE: "50M",
    Kind.VOLUME_RATE: "1024K/15s",
    Kind.BOOLEAN_OR_INTERVAL: "4h",
    Kind.TEXT: "word",
    Kind.TEXTS: "one, two",
    Kind.ADDRESS: "jo@example.com",
    Kind.ADDRESSES: "jo@example.com, al@example.com",
    Kind.IP: "192.0.2.1",
    Kind.HOST_PORT: "127.0.0.1:53",
    Kind.PORT: "2525",
    Kind.FILE: "/tmp/file",
    Kind.DIRECTORY: "/tmp",
    Kind.HOST_NAME: "mail.example.com",
    Kind.DOMAIN_PATTERN: "*.example.com",
    Kind.NETWORK_INTEGER: "10/8 20",
    Kind.NETWORK_RATE: "10/8 20/h",
    Kind.NETWORK_VOLUME_RATE: "10/8 1m/h",
    Kind.PATTERN_INTEGER: "*.mx.example.com 20",
    Kind.DAILY: "50/day,100/d",
    Kind.WORDS: "192.0.2.1 mail.example.com",
    Kind.NOTHING: "anything at all",
}

#: Lines whose form is their own, and names that stand for something else in the file.
LINES = {
    (Scope.GLOBAL, "include"): "",  # files are test_files.py's matter
    (Scope.GLOBAL, "alias"): "postmaster jo@example.com",
    (Scope.GLOBAL, "domain-macro"): "google gmail.com,googlemail.com",
    (Scope.GLOBAL, "smtp-listener"): "127.0.0.1:25",
    (Scope.GLOBAL, "regex"): '"5\\.2\\.2" action delete',
    (Scope.BOUNCE_RULE, "regex"): '"5\\.2\\.2" action delete',
    (Scope.GLOBAL, "domain-key"): "s1, example.com, /tmp/key.pem",
    (Scope.DOMAIN_KEY_LIST, "domain-key"): "s1, example.com, /tmp/key.pem",
    (Scope.ACCT_FILE, "record-fields"): "d *, header_subject",
    (Scope.PATTERN_LIST, "header"): "Subject /x/ virtual-mta=v1",
    (Scope.PATTERN_LIST, "mail-from"): "/x/ virtual-mta=v1",
    (Scope.PATTERN_LIST, "rcpt-to"): "/x/ virtual-mta=v1",
    (Scope.PATTERN_LIST, "*"): "virtual-mta=v1",
    (Scope.SMTP_PATTERN_LIST, "reply"): "/x/ mode=backoff",
    (Scope.REWRITE_LIST, "mail-from"): "*@a.example *@b.example",
    (Scope.REWRITE_LIST, "from-domain"): "*.a.example b.example",
    (Scope.GLOBAL, "smtp-proxy-source-host"): "10.0.0.1 10.0.0.2:8080 192.0.2.1 out.example.com",
    (Scope.VIRTUAL_MTA, "smtp-proxy-source-host"): "10.0.0.1 10.0.0.2:8080 192.0.2.1:0 out.example.com",
}

#: Values that must be a name that exists.
REFERENCES = {
    "default-virtual-mta": "v1",
    "invalid-virtual-mta-fallback": "v1",
    "backoff-reroute-to-virtual-mta": "v1",
    "reroute-to-virtual-mta": "v1",
    "cold-virtual-mta": "v1",
    "virtual-mta": "v1",
    "pattern-list": "choose",
    "smtp-pattern-list": "replies",
    "smtp-hosts": "mx.example.com",
    "route": "[192.0.2.1]:25",
    "connection-idle-timeout": "5m",
    "rewrite-list": "senders",
    "suppression-lists": "nobody",
    "use-proxy": "proxy1",
}

CONTEXT = """
<virtual-mta v1>
</virtual-mta>
<pattern-list choose>
* virtual-mta=v1
</pattern-list>
<smtp-pattern-list replies>
reply // defer-queue
</smtp-pattern-list>
<rewrite-list senders>
</rewrite-list>
<address-list nobody>
</address-list>
<proxy proxy1>
server 10.0.0.2:8080
client 192.0.2.1 out.example.com
</proxy>
"""

PARENTS = {Scope.ADDRESS_LIST: "<bounce-processor>", Scope.EMAIL_PATTERNS: "<bounce-processor>"}

#: Results and actions: parts of a line, never its beginning.
PARTS = {
    "virtual-mta=": "* virtual-mta=v1",
    "recipient-priority=": "* recipient-priority=10",
    "call-to:": "* call-to:choose",
    "backoff-to-normal-after=": "reply /x/ mode=backoff,backoff-to-normal-after=1h",
    "reenable-after=": "reply /x/ disable-source-ip,reenable-after=1h",
    "/regex/ category": "/x/ other",
}


def value_of(row: Directive, scope: Scope) -> str:
    if row.name in REFERENCES and row.kind is not Kind.NOTHING:
        return REFERENCES[row.name]
    for place in (scope, Scope.GLOBAL):
        if (place, row.name) in LINES:
            return LINES[place, row.name]
    if row.choices and row.kind in (Kind.ENUM, Kind.ENUMS):
        return row.choices[0]
    return SAMPLES.get(row.kind, "*.example.com name.rollup")


def line_of(row: Directive, scope: Scope) -> str:
    if row.name in PARTS:
        return PARTS[row.name]
    if scope is Scope.SMTP_PATTERN_LIST and row.name not in ("reply", "include"):
        return f"reply /x/ {row.name}"
    value = value_of(row, scope)
    return f"{row.name} {value}" if value else ""


def configuration(row: Directive, scope: Scope) -> str:
    line = line_of(row, scope)
    if scope is Scope.GLOBAL:
        return f"{CONTEXT}{line}\n"
    form = next(form for form in BLOCKS if form.scope is scope)
    argument = form.example or ("name" if form.argument.value == "required" else "")
    members = "virtual-mta v1\n" if scope is Scope.POOL else ""
    body = f"<{form.name} {argument}>\n{members}{line}\n</{form.name}>\n".replace(" >", ">")
    outer = PARENTS.get(scope, "")
    return CONTEXT + (f"{outer}\n{body}</{outer[1:]}\n" if outer else body)


def every_place() -> list[tuple[str, str]]:
    return [tuple(line.split(" ", 1)) for line in NAMES.read_text().splitlines() if line]  # type: ignore[misc]


@pytest.mark.parametrize(("place", "name"), every_place())
def test_name_is_accepted_in_its_block(place: str, name: str) -> None:
    scope = Scope("" if place == "(top)" else place)
    row = TABLE.find(scope, name)
    assert row is not None

    loaded = load_text(configuration(row, scope))

    assert [str(problem) for problem in loaded.errors] == []


def test_what_is_not_powermtas_is_warned_of_and_not_obeyed() -> None:
    for row in TABLE:
        scope = next(iter(row.scopes))
        if row.status is Status.FOREIGN and scope is not Scope.SMTP_PATTERN_LIST:
            texts = [problem.text for problem in load_text(configuration(row, scope)).problems]

            assert any("not obeyed" in text for text in texts), row.name
