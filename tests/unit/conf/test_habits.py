"""A configuration as people with PowerMTA habits write it loads without an error and means what they mean."""

from __future__ import annotations

from mta.config.lint import Machine, lint
from mta.config.load import load_text
from mta.config.units import Rate

HABITS = """
################ servers ################\r
postmaster admin@example.com
host-name mail.example.com     # main name
smtp-listener 0/0:25
smtp-listener 0.0.0.0:2525
run-as-root no
total-max-smtp-out 800
sync-msg-create false
sync-msg-update False
http-mgmt-port 8080
http-access 0/0 admin
log-file "/var/log/pmta/pmta.log"

<spool /var/spool/pmta>
    deliver-only no
</spool>

<smtp-user feeder>
    password "p w"
    source {pmta-auth}
</smtp-user>

<source {pmta-auth}>
    always-allow-relaying yes
    require-auth true
    process-x-virtual-mta yes
    process-x-job yes
    jobid-header X-Mailer-RecptId
    remove-received-headers true
    hide-message-source true
    add-date-header yes
    default-virtual-mta pool1
    smtp-service yes
    log-connections no
</source>

<source 127.0.0.1>
    always-allow-relaying yes
    pattern-list choose
</source>

domain-macro hotmail hotmail.com,live.com,
    outlook.com
domain-macro tld com,co.uk,
    de
domain-macro yahoo
    yahoo.$tld,ymail.com

<smtp-pattern-list blocking-errors>
    reply /421 .* too many/   mode=backoff
    reply /\\[TSS?0[1-9]\\]/  mode=backoff,backoff-to-normal-after=2h
    reply /S3150|banned/      mode=backoff
    reply /spamhaus/          disable-source-ip,reenable-after=1d
    reply /mailbox busy/      skip-mx
    reply //                  mode=normal
</smtp-pattern-list>

<pattern-list choose>
    mail-from /@news\\.example\\.com/ virtual-mta=vmta2
    header X-Stream /bulk/ virtual-mta=pool1
    rcpt-to /@gmail\\.com$/ <pattern-list>
        * virtual-mta=vmta1
    </pattern-list>
</pattern-list>

<virtual-mta vmta1>
    smtp-source-ip 192.0.2.11
    host-name out1.example.com
    domain-key dkim,*,/etc/pmta/example.com-dkim.key
    max-smtp-out 300
    <domain *>
        max-msg-rate 1000/h
    </domain>
    <domain gmail.com>
        max-msg-rate 250/h
        max-cold-virtual-mta-msg 50/day,100/day
    </domain>
</virtual-mta>

<virtual-mta vmta2>
    auto-cold-virtual-mta 192.0.2.13 cold.example.com
    smtp-source-host 192.0.2.12 out2.example.com
</virtual-mta>

<virtual-mta-pool pool1>
    virtual-mta vmta1
    virtual-mta vmta2
</virtual-mta-pool>

<domain $hotmail>
    max-smtp-out 20
    smtp-421-means-mx-unavailable yes
    smtp-421-means-mx-unavailable yes
    backoff-retry-after 1h,3h,6h
</domain>

<domain $yahoo>
    max-msg-per-connection 20
    max-msg-per-hour 250
</domain>

<domain discard.example>
    route [192.0.2.99]:2525
</domain>

<domain *>
    max-smtp-out 10
    bounce-after 4d12h
    retry-after 10m,10m,1h,4h
    dk-sign no
    dkim-sign yes
    smtp-pattern-list blocking-errors
    backoff-to-normal-after 1h
    use-starttls yes
    ignore-8bitmime yes
</domain>

<acct-file /var/log/pmta/acct.csv>
    records d, b
    record-fields d *, header_subject, timeImprinted,
        header_X-Stream, !orcpt
    move-to /var/log/pmta/moved
    move-interval 5m
    max-size 50M
    delete-after 8d
</acct-file>

<acct-file "|/usr/bin/handler --mode bounces">
    records bounce
    write-timeout 30s
</acct-file>

<acct-file /var/log/pmta/diag.csv>
    records t
</acct-file>

<bounce-category-patterns>
    /no such user/ bad-mailbox
    /^[45]\\.2\\.2;/ quota-issues
    // other
</bounce-category-patterns>
"""


def test_habits_load_without_an_error() -> None:
    loaded = load_text(HABITS)

    assert [str(problem) for problem in loaded.errors] == []


def test_habits_mean_what_they_mean() -> None:
    snapshot = load_text(HABITS).snapshot
    assert snapshot is not None

    assert snapshot.effective("yahoo.co.uk", "vmta2").rate("max-msg-rate") == Rate(250, 3600.0)
    assert snapshot.effective("yahoo.de", "vmta1").rate("max-msg-rate") == Rate(1000, 3600.0)
    assert snapshot.effective("gmail.com", "vmta1").rate("max-msg-rate") == Rate(250, 3600.0)
    assert snapshot.effective("outlook.com", "vmta1").intervals("backoff-retry-after")[1] == 3 * 3600
    assert snapshot.effective("discard.example", "vmta1").text("smtp-hosts") == "[192.0.2.99]:2525"
    assert snapshot.effective("x.example", "vmta1").interval("bounce-after") == 4.5 * 86400
    assert snapshot.source("198.51.100.1", "{pmta-auth}").text("default-virtual-mta") == "pool1"
    assert [source.host_name for source in snapshot.vmtas["vmta1"].sources] == ["out1.example.com"]


def test_habits_that_are_dangerous_are_named() -> None:
    snapshot = load_text(HABITS).snapshot
    assert snapshot is not None

    texts = [problem.text for problem in lint(snapshot, Machine())]

    assert "http-access 0/0 admin: anybody who reaches the monitor has the right admin" in texts
    assert any("has no effect yet" in text for text in texts)
    assert any("vmta2 has no domain-key" in text for text in texts)
    assert not any("open relay" in text for text in texts)
