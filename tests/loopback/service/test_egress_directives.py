"""TLS, logins, proxies, virtual MTAs and ways of delivery that are not SMTP, as the configuration says."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from tests.support.certificates import make_certificate, server_context
from tests.support.haproxy import SmallProxy
from tests.support.http_endpoint import HttpEndpoint
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.steering import by_vmta, towards
from tests.support.workshop import Workshop

OFFERS = ("PIPELINING", "STARTTLS", "AUTH PLAIN")


HOST = "mx.example.com"


def context(directory: Path, *versions: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
    made = server_context(make_certificate(directory, "mx.example.com"))
    if versions:
        made.minimum_version, made.maximum_version = versions
    if ciphers:
        made.set_ciphers(ciphers)
    return made


ONLY_12 = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
ONLY_11 = (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1)
ONLY_10 = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1)
ONLY_13 = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)


@pytest.mark.directive("domain use-starttls")
@pytest.mark.directive("domain require-starttls")
@pytest.mark.directive("domain smtp-tls-allow-tlsv1")
@pytest.mark.directive("domain smtp-tls-allow-tlsv1.1")
@pytest.mark.directive("domain smtp-tls-allow-tlsv1.2")
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.directive("domain smtp-tls-allow-tlsv1.3")
@pytest.mark.directive("domain smtp-tls-ciphers")
@pytest.mark.directive("domain smtp-tls-ca-file")
@pytest.mark.parametrize(
    ("lines", "versions", "result"),
    [
        ("", ONLY_13, "TLSv1.3"),
        ("use-starttls no", ONLY_13, ""),
        ("smtp-tls-allow-tlsv1.3 no", (), "TLSv1.2"),
        ("smtp-tls-allow-tlsv1.1 no\nsmtp-tls-allow-tlsv1.2 no", (), "TLSv1.3"),
        ("smtp-tls-ciphers ALL:@SECLEVEL=0\nrequire-starttls yes", ONLY_11, "TLSv1.1"),
        ("smtp-tls-ciphers ALL:@SECLEVEL=0\nrequire-starttls yes\nsmtp-tls-allow-tlsv1.1 no", ONLY_11, "tq"),
        (
            "smtp-tls-ciphers ALL:@SECLEVEL=0\nrequire-starttls yes\nsmtp-tls-allow-tlsv1 yes",
            ONLY_10,
            "TLSv1",
        ),
        ("smtp-tls-ciphers ALL:@SECLEVEL=0\nrequire-starttls yes", ONLY_10, "tq"),
        ("require-starttls yes\nsmtp-tls-allow-tlsv1.3 no", ONLY_13, "tq"),
        ("require-starttls yes\nsmtp-tls-allow-tlsv1.2 no", ONLY_12, "tq"),
        (
            "smtp-tls-allow-tlsv1.3 no\nsmtp-tls-ciphers ECDHE-ECDSA-CHACHA20-POLY1305",
            (),
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        ("require-starttls yes\nsmtp-tls-ca-file {directory}/mx.example.com.pem", (), "TLSv1.3"),
        ("require-starttls yes\nsmtp-tls-ca-file {directory}/other.pem", (), "tq"),
    ],
)
async def test_connection_is_encrypted_as_it_is_written(
    tmp_path: Path, lines: str, versions: tuple[ssl.TLSVersion, ...], result: str
) -> None:
    ciphers = "ALL:@SECLEVEL=0" if versions in (ONLY_10, ONLY_11) else ""
    tls = context(tmp_path, *versions, ciphers=ciphers)
    make_certificate(tmp_path, "other")
    async with ScriptedServer(Script(offers=OFFERS), tls=tls) as server:
        extra = towards(server, lines=lines.format(directory=tmp_path), host=HOST)
        async with Workshop(tmp_path, extra=extra) as shop:
            await shop.submit()
            await shop.until(lambda: shop.events())
            (event,) = shop.events()

    found = "tq" if event.type == "tq" else event.tls_protocol
    assert result in (found, event.tls_cipher)


@pytest.mark.directive("domain smtp-client-certificate")
async def test_receiver_is_shown_our_certificate(tmp_path: Path) -> None:
    ours = make_certificate(tmp_path, "ours")
    tls = context(tmp_path)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(ours)
    async with ScriptedServer(Script(offers=OFFERS), tls=tls) as server:
        extra = towards(server, lines=f"require-starttls yes\nsmtp-client-certificate {ours}", host=HOST)
        async with Workshop(tmp_path, extra=extra) as shop:
            await shop.submit()

            await shop.until_events(1, "d")


@pytest.mark.directive("domain auth-username")
@pytest.mark.directive("domain auth-password")
@pytest.mark.directive("domain use-unencrypted-plain-auth")
@pytest.mark.parametrize(("wish", "kind"), [("yes", "d"), ("no", "tq")])
async def test_we_log_in_where_the_password_may_be_seen(tmp_path: Path, wish: str, kind: str) -> None:
    async with ScriptedServer(Script(offers=("AUTH PLAIN",))) as server:
        lines = f"auth-username jo\nauth-password secret\nuse-unencrypted-plain-auth {wish}"
        async with Workshop(tmp_path, extra=towards(server, lines=lines)) as shop:
            await shop.submit()
            await shop.until_events(1, kind)

        assert server.seen("AUTH PLAIN AGpvAHNlY3JldA==") is (wish == "yes")


@pytest.mark.directive("virtual-mta smtp-proxy-source-host")
@pytest.mark.directive("virtual-mta proxy-protocol")
@pytest.mark.directive("virtual-mta use-proxy")
@pytest.mark.parametrize(
    ("lines", "version"),
    [
        ("smtp-proxy-source-host 127.0.0.9 127.0.0.1:{port} 192.0.2.7 out.example.org", 1),
        ("smtp-proxy-source-host 127.0.0.9 127.0.0.1:{port} 192.0.2.7 out.example.org\nproxy-protocol 2", 2),
        ("use-proxy gate", 1),
    ],
)
async def test_mail_goes_through_the_proxy_that_is_named(tmp_path: Path, lines: str, version: int) -> None:
    async with SmallProxy() as proxy:
        gate = f"server 127.0.0.1:{proxy.port}\nclient 192.0.2.7 out.example.org"
        extra = f"<proxy gate>\n{gate}\n</proxy>\n" + by_vmta(lines.format(port=proxy.port))
        async with Workshop(tmp_path, extra=extra) as shop:
            await shop.submit()
            (event,) = await shop.until_events(1, "d")

        assert event.delivery_source_ip == "192.0.2.7"
        assert [asked[:2] for asked in proxy.asked] == [(version, "192.0.2.7")]
        assert shop.deliveries[0].greeting == "out.example.org"


@pytest.mark.directive("virtual-mta host-name")
@pytest.mark.directive("virtual-mta smtp-source-ip")
async def test_virtual_mta_has_an_address_and_a_name(tmp_path: Path) -> None:
    async with Workshop(
        tmp_path, extra=by_vmta("smtp-source-ip 127.0.0.9\nhost-name nine.example.org")
    ) as shop:
        await shop.submit()
        await shop.until_events(1, "d")

    assert (shop.deliveries[0].client, shop.deliveries[0].greeting) == ("127.0.0.9", "nine.example.org")


@pytest.mark.directive("virtual-mta-pool virtual-mta")
async def test_members_of_a_pool_take_turns(tmp_path: Path) -> None:
    second = "<virtual-mta v2>\nsmtp-source-host 127.0.0.9 nine.example.org\n</virtual-mta>\n"
    extra = second + by_vmta("smtp-source-host 127.0.0.8 eight.example.org", pool="virtual-mta v2")
    async with Workshop(tmp_path, extra=extra) as shop:
        await shop.submit(count=4)
        events = await shop.until_events(4, "d")

    assert sorted(event.vmta for event in events) == ["v1", "v1", "v2", "v2"]
    assert sorted(delivery.client for delivery in shop.deliveries) == ["127.0.0.8"] * 2 + ["127.0.0.9"] * 2


@pytest.mark.directive("domain max-cold-virtual-mta-msg")
@pytest.mark.directive("virtual-mta cold-virtual-mta")
@pytest.mark.directive("virtual-mta auto-cold-virtual-mta")
@pytest.mark.directive("virtual-mta-pool cold-virtual-mta")
@pytest.mark.parametrize("place", ["virtual-mta", "auto", "pool"])
async def test_some_of_the_mail_goes_through_the_cold_one(tmp_path: Path, place: str) -> None:
    line = "auto-cold-virtual-mta 127.0.0.9 nine.example.org" if place == "auto" else "cold-virtual-mta new1"
    cold = "<virtual-mta new1>\nsmtp-source-host 127.0.0.9 nine.example.org\n</virtual-mta>\n"
    extra = cold + (by_vmta(pool=line) if place == "pool" else by_vmta(line))
    async with Workshop(tmp_path, within="max-cold-virtual-mta-msg 2/day", extra=extra) as shop:
        await shop.submit(count=5)
        await shop.until_events(5, "d")

    assert sorted(delivery.client for delivery in shop.deliveries) == ["127.0.0.1"] * 3 + ["127.0.0.9"] * 2


@pytest.mark.directive("virtual-mta include-headers-from")
@pytest.mark.directive("virtual-mta rewrite-list")
@pytest.mark.directive("virtual-mta-pool include-headers-from")
@pytest.mark.directive("virtual-mta-pool rewrite-list")
@pytest.mark.parametrize("place", ["virtual-mta", "pool"])
async def test_virtual_mta_or_pool_changes_head_and_sender(tmp_path: Path, place: str) -> None:
    (tmp_path / "lines").write_text("X-Sent-By: us\n")
    lines = f"include-headers-from {tmp_path}/lines\nrewrite-list senders"
    senders = "<rewrite-list senders>\nmail-from app@example.org news@shop.example\n</rewrite-list>\n"
    extra = senders + (by_vmta(pool=lines) if place == "pool" else by_vmta(lines, pool=""))
    async with Workshop(tmp_path, extra=extra) as shop:
        await shop.submit()
        (delivery,) = await shop.until_delivered()

    assert b"X-Sent-By: us" in delivery.data
    assert delivery.sender == "news@shop.example"


@pytest.mark.directive("domain type")
@pytest.mark.directive("domain command")
@pytest.mark.directive("domain file-destination")
@pytest.mark.directive("domain file-format")
@pytest.mark.directive("domain macro-variables-preserve-case")
@pytest.mark.directive("domain discard-as-bounce")
async def test_other_ways_of_delivery(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$1" > "$2"\ncat >> "$2"\n')
    program.chmod(0o755)
    extra = f"""
<domain box.example>
type file
file-format append-mbox
file-destination {tmp_path}/box-$user
macro-variables-preserve-case yes
</domain>
<domain pipe.example>
type pipe
command "{program} $to {tmp_path}/piped"
</domain>
<domain gone.example>
type discard
discard-as-bounce yes
</domain>"""
    async with Workshop(tmp_path, extra=extra) as shop:
        for address in ("Jo@box.example", "Jo@pipe.example", "Jo@gone.example"):
            await shop.hand_in("Subject: x\n\nhello", address)
        events = await shop.until_events(2, "d") + await shop.until_events(1, "b")

    assert sorted(event.delivery_type for event in events) == ["discard", "file", "pipe"]
    assert (tmp_path / "box-Jo").read_text().startswith("From app@example.org")
    assert (tmp_path / "piped").read_text().startswith("jo@pipe.example\n")


@pytest.mark.directive("domain http-delivery-url")
@pytest.mark.directive("domain http-delivery-extra-headers")
async def test_mail_is_posted_to_the_address_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Authorization: Bearer one\n")
    async with HttpEndpoint() as endpoint:
        lines = f"http-delivery-url {endpoint.url}\nhttp-delivery-extra-headers {tmp_path}/more"
        extra = f"<domain hook.example>\ntype http-delivery\n{lines}\n</domain>"
        async with Workshop(tmp_path, extra=extra) as shop:
            await shop.hand_in("Subject: x\n\nhello", "jo@hook.example")
            (event,) = await shop.until_events(1, "d")

    assert event.delivery_type == "http-delivery"
    assert json.loads(endpoint.posted[0].body)["rcpt_to"] == "jo@hook.example"
    assert endpoint.posted[0].fields["authorization"] == "Bearer one"
