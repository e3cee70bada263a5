"""Configurations as they are found: old names, mixed styles, odd spacing. All of it must load."""

from __future__ import annotations

from mta.config.load import load_text
from mta.config.snapshot import EgressSource, Snapshot

TEXT = """\
\ufeff# Из старого сервера, см. вики
postmaster\thostmaster@example.com
http-mgmt-port 8080
http-access 127.0.0.1 monitor
run-as-root yes
run-as-root no\t# twice is fine
sync-msg-create false
sync-msg-update false
log-file /var/log/mta/log
host-name mail.example.com

smtp-listener 0/0:25
smtp-listener 192.0.2.1:2525 source={pmta-auth}
smtp-listener 0.0.0.0:587 {
    starttls yes
}

####################
## clients
####################
<source 127.0.0.1>
    always-allow-relaying yes   # ourselves
    process-x-virtual-mta True
    max-message-size unlimited
    smtp-service yes
</source>
<source {pmta-auth}>
    require-auth true
    always-allow-relaying yes
    default-virtual-mta team
    remove-received-headers true
    pattern-list by-sender
</source>
<source *>
    allow-relay no
    add-date-header true
</source>
<smtp-user app1>
        password qwerty
        source {pmta-auth}
</smtp-user>
<pattern-list by-sender>
    mail-from /@a\\.example$/ virtual-mta=v1
</pattern-list>

<virtual-mta-pool team>
    virtual-mta v1
    virtual-mta mx-2
    weight 3
</virtual-mta-pool>
<virtual-mta v1>
    auto-cold-virtual-mta 192.0.2.99 cold.example.com
    domain-key s1,a.example,{vault}:/dkim:a
    smtp-source-host 192.0.2.1 v1.example.com
    <domain *>
        max-cold-virtual-mta-msg 100/day,200/day
        max-msg-rate 600/h
    </domain>
</virtual-mta>
<virtual-mta mx-2>
    smtp-source-ip 192.0.2.2
    host-name mx2.example.com
    max-smtp-msg-rate 100/m
    source 192.0.2.2
</virtual-mta>

domain-macro msn
    hotmail.example,hotmail.co.example,
    live.example , outlook.example,

    msn.example
domain-macro tld com,co.uk
<domain $msn>
    max-smtp-out    800
    smtp-421-means-mx-unavailable yes
    smtp-421-means-mx-unavailable yes
    queue-to "msn.queue"
</domain>
<domain msn.queue>
    smtp-hosts [192.0.2.200]:25,mx.example;fallback.example
</domain>
<domain *>
    max-smtp-out    20
    bounce-after    4d12h
    retry-after     10m, 10m,1h
    dk-sign yes
    dkim-sign yes
    route [192.0.2.77]:26
    bounce-upon-no-mx yes
    smtp-pattern-list slow-down
    backoff-notify ""
    backoff-retry-after 20m
    backoff-max-msg-rate 1/20m
    backoff-to-normal-after 1h
    max-smtp-connections 4
    deliver-local-dsn no
    421-means-mx-unavailable yes
</domain>
<domain discard.example>
    type discard
</domain>
<domain [192.0.2.0/24]>
    max-smtp-out 2
</domain>

<smtp-pattern-list slow-down>
    #
    reply /too (many|much).*mail/    mode=backoff
    reply /\\x23 of \\/ slashes/      skip-mx,mode=backoff
    reply /come back/                mode=retry
    reply //                         bounce-rcpt
</smtp-pattern-list>
<bounce-category-patterns>
    /junk|spam/ spam-related
    /^[45]\\.2\\.2;/ quota-issues
    // other    # everything else
</bounce-category-patterns>
<bounce-rule>
    regex "5\\.2\\.2" action delete
</bounce-rule>

<acct-file /var/log/mta/acct.csv>
    records d, b
    record-fields d *, header_subject,!envId
    record-fields b timeLogged,orig,rcpt
    map-header-to-column b header_X rcpt
    move-interval 5m
    max-size 500M
    delete-after 30d
</acct-file>
<acct-file "|/opt/my prog/x.py --a b > /dev/null">
    records all
</acct-file>
<rejectlog-file /var/log/mta/rejects.csv>
    records c,r
    max-size 100M
</rejectlog-file>
<spool /var/spool/mta>
    delete-file-holders yes
</spool>
disk-queue /var/spool/other
memory-pool-buffer-size 512M
spool-max-recipients auto
<mx-rollup-list>
    mx *.mx.example big.rollup
</mx-rollup-list>
<bounce-processor>
    deliver-unmatched-email no
    <address-list>
        domain bounces.example.com
        address /bounce-.*/
    </address-list>
</bounce-processor>
relay-domain example.com
relay-domain [*.]shop.$tld
process-user mta
name-server 127.0.0.1:5353
max-smtp-out 12
initial-pts 60
deliver-bounces no
log-bounces yes
"""


def load() -> Snapshot:
    loaded = load_text(TEXT.replace("\n", "\r\n"))
    assert loaded.snapshot is not None, [str(problem) for problem in loaded.errors]
    return loaded.snapshot


def test_everything_loads_and_only_odd_names_are_warned_about() -> None:
    load()

    texts = [problem.text for problem in load_text(TEXT).problems]
    for name in (
        "weight",
        "source",
        "max-smtp-connections",
        "map-header-to-column",
        "mode=retry",
        "records all",
    ):
        assert any(text.startswith(f"{name} ") for text in texts), name
    assert any("braces" in text for text in texts)
    assert any("<source *>" in text for text in texts)


def test_lists_over_several_lines_are_whole() -> None:
    made = load()

    for name in ("hotmail.example", "outlook.example", "msn.example"):
        assert made.effective(name, "v1").text("queue-to") == "msn.queue", name


def test_each_queue_has_its_own_mixture() -> None:
    made = load()
    settings = made.effective("msn.example", "v1")

    assert settings.integer("max-smtp-out") == 800
    assert settings.rate("max-msg-rate") == (600, 3600.0)
    assert settings.rate("backoff-max-msg-rate") == (1, 1200.0)
    assert settings.intervals("retry-after") == (600, 600, 3600)
    assert settings.boolean("smtp-421-means-mx-unavailable")
    assert settings.text("smtp-hosts") == "[192.0.2.77]:26"
    assert made.effective("msn.queue", "v1").text("smtp-hosts").endswith(";fallback.example")
    assert made.effective("[192.0.2.5]", "v1").integer("max-smtp-out") == 2


def test_clients_are_told_apart() -> None:
    made = load()

    assert made.source("127.0.0.1").boolean("always-allow-relaying")
    assert not made.source("203.0.113.5").boolean("always-allow-relaying")
    assert made.source("203.0.113.5", "{pmta-auth}").text("default-virtual-mta") == "team"
    assert [(at.host, at.port, at.source_name) for at in made.listeners] == [
        ("0.0.0.0", 25, ""),
        ("192.0.2.1", 2525, "{pmta-auth}"),
    ]
    assert made.smtp_users["app1"].settings.text("password") == "qwerty"


def test_sending_identities_are_as_written() -> None:
    made = load()

    assert made.vmtas["v1"].sources == (EgressSource("192.0.2.1", "v1.example.com"),)
    assert made.vmtas["mx-2"].sources == (EgressSource("192.0.2.2", "mx2.example.com"),)
    assert made.vmtas["mx-2"].settings.rate("max-smtp-msg-rate") == (100, 60.0)
    assert made.pools["team"].members == ("v1", "mx-2")


def test_files_and_lists_are_as_written() -> None:
    made = load()

    assert [file.target for file in made.acct_files] == [
        "/var/log/mta/acct.csv",
        "|/opt/my prog/x.py --a b > /dev/null",
    ]
    assert made.acct_files[0].settings.texts("record-fields") == (
        "d *, header_subject,!envId",
        "b timeLogged,orig,rcpt",
    )
    assert made.acct_files[1].settings.texts("records") == ("d", "b")
    assert [str(block.path) for block in made.spools] == ["/var/spool/other", "/var/spool/mta"]
    assert [entry.regex.source for entry in made.reply_patterns("slow-down")] == [
        "too (many|much).*mail",
        r"\x23 of / slashes",
        "come back",
        "",
    ]
    assert [entry.category for entry in made.bounce_categories()] == ["spam-related", "quota-issues", "other"]
    assert made.is_relay_domain("a.shop.co.uk")
    assert not made.top.boolean("run-as-root")
