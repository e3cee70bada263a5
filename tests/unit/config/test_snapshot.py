"""Who wins: scopes, patterns, macros, sources, keys."""

from __future__ import annotations

from mta.config.load import load_text
from mta.config.snapshot import EgressSource, Snapshot


def snapshot(text: str) -> Snapshot:
    loaded = load_text(text)
    assert loaded.snapshot is not None, [str(problem) for problem in loaded.problems]
    return loaded.snapshot


def test_without_any_line_the_defaults_hold() -> None:
    settings = snapshot("").effective("example.com", "{default}")

    assert settings.integer("max-smtp-out") == 20
    assert settings.intervals("retry-after") == (600.0,)
    assert settings.rate("max-msg-rate") is None
    assert not settings.is_set("max-smtp-out")
    assert settings.origin("max-smtp-out") is None


def test_the_more_specific_pattern_wins_whatever_the_order() -> None:
    made = snapshot(
        """
        <domain mail.example.com>
          max-smtp-out 3
        </domain>
        <domain *>
          max-smtp-out 1
        </domain>
        <domain [*.]example.com>
          max-smtp-out 2
        </domain>
        """
    )

    assert made.effective("mail.example.com", "{default}").integer("max-smtp-out") == 3
    assert made.effective("example.com", "{default}").integer("max-smtp-out") == 2
    assert made.effective("x.mail.example.com", "{default}").integer("max-smtp-out") == 2
    assert made.effective("example.net", "{default}").integer("max-smtp-out") == 1


def test_each_directive_is_inherited_on_its_own() -> None:
    made = snapshot(
        "<domain *>\nmax-msg-rate 5/h\nbounce-after 1d\n</domain>\n<domain a.b>\nmax-msg-rate 9/h\n</domain>"
    )
    settings = made.effective("a.b", "{default}")

    assert settings.rate("max-msg-rate") == (9, 3600.0)
    assert settings.interval("bounce-after") == 86400.0


SCOPES = """
<domain gmail.com>
  max-smtp-out 1
  max-msg-per-connection 11
  bounce-after 1d
</domain>
<virtual-mta v1>
  <domain *>
    max-smtp-out 3
  </domain>
</virtual-mta>
<virtual-mta v2>
</virtual-mta>
<virtual-mta-pool p>
  virtual-mta v1
  virtual-mta v2
  <domain *>
    max-smtp-out 2
    max-msg-per-connection 22
  </domain>
</virtual-mta-pool>
"""


def test_the_scope_decides_before_the_pattern() -> None:
    settings = snapshot(SCOPES).effective("gmail.com", "v1")

    assert settings.integer("max-smtp-out") == 3
    assert settings.integer("max-msg-per-connection") == 22
    assert settings.interval("bounce-after") == 86400.0


def test_a_pool_lies_between_the_global_blocks_and_the_virtual_mta() -> None:
    made = snapshot(SCOPES)

    assert made.effective("gmail.com", "v2").integer("max-smtp-out") == 2
    assert made.effective("gmail.com", "{default}").integer("max-smtp-out") == 1


def test_origins_say_file_line_and_blocks() -> None:
    origin = snapshot(SCOPES).effective("gmail.com", "v1").origin("max-smtp-out")

    assert origin is not None
    assert origin.line == 9
    assert origin.block == "virtual-mta v1 / domain *"
    assert str(origin).endswith("<text>:9")


def test_a_written_domain_beats_one_from_a_macro() -> None:
    made = snapshot(
        """
        domain-macro isp aol.com, gmx.de
        <domain aol.com>
          max-smtp-out 1
        </domain>
        <domain $isp>
          max-smtp-out 2
          bounce-after 2d
        </domain>
        """
    )

    assert made.effective("aol.com", "{default}").integer("max-smtp-out") == 1
    assert made.effective("aol.com", "{default}").interval("bounce-after") == 172800.0
    assert made.effective("gmx.de", "{default}").integer("max-smtp-out") == 2


def test_a_line_at_top_level_lies_under_every_domain_block() -> None:
    made = snapshot("max-smtp-out 7\n<domain a.b>\nmax-smtp-out 8\n</domain>")

    assert made.effective("x.y", "{default}").integer("max-smtp-out") == 7
    assert made.effective("a.b", "{default}").integer("max-smtp-out") == 8


def test_the_same_name_means_something_else_in_a_virtual_mta() -> None:
    made = snapshot("<virtual-mta v>\nmax-smtp-out 50\n<domain *>\nmax-smtp-out 5\n</domain>\n</virtual-mta>")

    assert made.vmtas["v"].settings.integer("max-smtp-out") == 50
    assert made.effective("a.b", "v").integer("max-smtp-out") == 5


def test_the_last_of_repeated_lines_and_blocks_wins() -> None:
    made = snapshot(
        "<domain a.b>\nmax-smtp-out 1\nmax-smtp-out 2\n</domain>\n<domain A.B>\nmax-smtp-out 3\n</domain>"
    )

    assert made.effective("a.b", "{default}").integer("max-smtp-out") == 3


def test_an_empty_value_clears_what_was_inherited() -> None:
    made = snapshot('<domain *>\nqueue-to all.queue\n</domain>\n<domain a.b>\nqueue-to ""\n</domain>')

    assert made.effective("x.y", "{default}").text("queue-to") == "all.queue"
    assert made.effective("a.b", "{default}").text("queue-to") == ""
    assert made.effective("a.b", "{default}").is_set("queue-to")


def test_domains_that_no_block_tells_apart_share_their_settings() -> None:
    made = snapshot("<domain *>\nmax-smtp-out 1\n</domain>\n<domain a.b>\nmax-smtp-out 2\n</domain>")

    assert made.effective("x.y", "{default}") is made.effective("y.z", "{default}")
    assert made.effective("x.y", "{default}") is not made.effective("a.b", "{default}")


def test_answers_are_remembered() -> None:
    made = snapshot("")

    assert made.effective("x.y", "v") is made.effective("x.y", "v")
    assert made.source("192.0.2.1") is made.source("192.0.2.1")


def test_sources_merge_from_the_shortest_prefix_to_the_longest_then_by_name() -> None:
    made = snapshot(
        """
        <source 127.0.0.1>
          log-commands yes
        </source>
        <source 0/0>
          max-message-size 1M
          process-x-job yes
          log-commands no
        </source>
        <source 127/8>
          max-message-size 2M
          always-allow-relaying yes
        </source>
        <source {auth}>
          max-message-size 3M
        </source>
        """
    )

    local = made.source("127.0.0.1")
    assert local.size("max-message-size") == 2 << 20
    assert local.boolean("always-allow-relaying")
    assert local.boolean("process-x-job")
    assert local.boolean("log-commands")
    assert made.source("127.0.0.1", "{auth}").size("max-message-size") == 3 << 20
    assert not made.source("192.0.2.1").boolean("always-allow-relaying")
    assert made.source("192.0.2.1", "nobody").size("max-message-size") == 1 << 20
    assert made.source("::1").size("max-message-size") == 1 << 20
    assert made.source("", "{pickup}").size("max-message-size") is None


def test_domain_keys_are_searched_from_the_virtual_mta_outwards() -> None:
    made = snapshot(
        """
        domain-key g,example.com,/g.pem
        <virtual-mta v>
          domain-key v,*,/v.pem
        </virtual-mta>
        <virtual-mta-pool p>
          virtual-mta v
          domain-key p,mail.example.com,/p.pem
        </virtual-mta-pool>
        """
    )

    assert [key.selector for key in made.domain_keys("v")] == ["v", "p", "g"]
    assert [key.selector for key in made.domain_keys("{default}")] == ["g"]


def test_a_key_signs_for_its_domain_and_those_below() -> None:
    key = snapshot("domain-key s,example.com,/k").domain_keys("{default}")[0]

    assert key.matches("example.com")
    assert key.matches("a.example.com")
    assert not key.matches("badexample.com")
    assert not key.matches("com")


def test_macros_in_a_key_give_every_combination() -> None:
    made = snapshot("domain-macro tld com,net\ndomain-key s,example.$tld,/$tld.pem")

    assert [(key.domain, key.path) for key in made.domain_keys("{default}")] == [
        ("example.com", "/com.pem"),
        ("example.com", "/net.pem"),
        ("example.net", "/com.pem"),
        ("example.net", "/net.pem"),
    ]


def test_a_virtual_mta_without_source_hosts_uses_the_global_ones() -> None:
    made = snapshot(
        """
        host-name main.example.com
        smtp-source-host 192.0.2.1 out1.example.com
        <virtual-mta own>
          smtp-source-ip 192.0.2.9
          host-name own.example.com
        </virtual-mta>
        <virtual-mta plain>
        </virtual-mta>
        <virtual-mta range>
          smtp-source-host 192.0.2.16/30 range.example.com
        </virtual-mta>
        """
    )

    assert made.vmtas["own"].sources == (EgressSource("192.0.2.9", "own.example.com"),)
    assert made.vmtas["plain"].sources == (EgressSource("192.0.2.1", "out1.example.com"),)
    assert made.vmtas["{default}"].sources == made.vmtas["plain"].sources
    assert [source.ip for source in made.vmtas["range"].sources] == ["192.0.2.17", "192.0.2.18"]


def test_without_any_source_host_the_system_chooses() -> None:
    made = snapshot("host-name main.example.com")

    assert made.vmtas["{default}"].sources == (EgressSource("", "main.example.com"),)


def test_listeners_come_from_lines_and_blocks() -> None:
    made = snapshot(
        "smtp-listener 0/0:25\nsmtp-listener 127.0.0.1:2525 source=app\nsmtp-listener [::1]:0\n"
        "<source app>\n</source>\n<smtp-listener 127.0.0.1:2526>\nsource app\n</smtp-listener>"
    )

    assert [(at.host, at.port, at.source_name) for at in made.listeners] == [
        ("0.0.0.0", 25, ""),
        ("127.0.0.1", 2525, "app"),
        ("::1", 0, ""),
        ("127.0.0.1", 2526, "app"),
    ]


def test_without_a_listener_port_25_is_served_everywhere() -> None:
    assert [(at.host, at.port) for at in snapshot("").listeners] == [("0.0.0.0", 25)]
    assert [
        (at.host, at.port) for at in snapshot("smtp-ip 192.0.2.1\nsmtp-port 26\nsmtp-port 27").listeners
    ] == [
        ("192.0.2.1", 26),
        ("192.0.2.1", 27),
    ]


def test_spools_come_from_lines_and_blocks() -> None:
    made = snapshot("spool /a\ndisk-queue /b\n<spool /c>\nmin-free-space 1G\n</spool>")

    assert [str(block.path) for block in made.spools] == ["/a", "/b", "/c"]
    assert made.spools[2].settings.size("min-free-space") == 1 << 30


def test_accounting_files_keep_commands_and_make_paths_absolute() -> None:
    made = snapshot(
        "<acct-file acct.csv>\nrecords d\nuser-string x\n</acct-file>\n"
        "<acct-file |/bin/cat -u>\n</acct-file>\n"
        "<rejectlog-file /r.csv>\n</rejectlog-file>"
    )

    assert made.acct_files[0].target.startswith("/")
    assert made.acct_files[0].target.endswith("/acct.csv")
    assert made.acct_files[0].settings.texts("records") == ("d",)
    assert made.acct_files[1].target == "|/bin/cat -u"
    assert made.acct_files[1].settings.texts("records") == ("d", "b")
    assert made.reject_files[0].settings.texts("records") == ("c", "r")


def test_relaying_is_open_for_listed_domains_addresses_and_our_own_names() -> None:
    made = snapshot(
        "host-name mx.example.org\nrelay-domain *.example.com\nrelay-address Joe@example.net\n"
        "relay-address /^list-.*@example\\.net$/"
    )

    assert made.is_relay_domain("a.example.com")
    assert made.is_relay_domain("MX.example.org")
    assert not made.is_relay_domain("example.com")
    assert made.is_relay_address("joe@example.net")
    assert made.is_relay_address("List-a@example.net")
    assert not made.is_relay_address("jim@example.net")


def test_patterns_keep_the_order_of_the_file() -> None:
    made = snapshot(
        """
        <bounce-category-patterns>
          /5\\.1\\.1/ bad-mailbox
          // other
        </bounce-category-patterns>
        <smtp-pattern-list blocked>
          reply /421 .* too many/ mode=backoff,backoff-to-normal-after=2h
          reply // skip-mx, bounce-rcpt
        </smtp-pattern-list>
        <bounce-rule>
          regex "5\\.2\\.2" action delete
        </bounce-rule>
        regex "4\\.7\\.0" action backoff
        """
    )

    assert [(entry.regex, entry.category) for entry in made.bounce_categories()] == [
        (r"5\.1\.1", "bad-mailbox"),
        ("", "other"),
    ]
    first, second = made.reply_patterns("blocked")
    assert (first.stage, first.action, dict(first.arguments)) == (
        "reply",
        "mode=backoff",
        {"backoff-to-normal-after": "2h"},
    )
    assert [action.name for action in second.actions] == ["skip-mx", "bounce-rcpt"]
    assert [(rule.regex.source, rule.action) for rule in made.bounce_rules] == [
        (r"5\.2\.2", "delete"),
        (r"4\.7\.0", "backoff"),
    ]
    assert made.reply_patterns("") == ()


def test_address_patterns_choose_virtual_mtas_and_nest() -> None:
    made = snapshot(
        """
        <virtual-mta v>
        </virtual-mta>
        <pattern-list choose>
          header Subject /sale/ virtual-mta=v
          mail-from /@a\\.com$/ <pattern-list>
            rcpt-to /@b\\.com$/ virtual-mta={default}, recipient-priority=10
            * virtual-mta=v
          </pattern-list>
        </pattern-list>
        """
    )
    header, sender = made.address_patterns("choose")

    assert (header.kind, header.header, header.vmta) == ("header", "subject", "v")
    assert [entry.kind for entry in sender.nested] == ["rcpt-to", "*"]
    assert sender.nested[0].priority == 10
    assert sender.nested[1].regex.search("whatever")


def test_initial_waits_double_up_to_their_ceiling() -> None:
    settings = snapshot("<domain *>\ninitial-pts 60\nmax-pts 300\n</domain>").effective("a.b", "{default}")

    assert settings.intervals("retry-after") == (60, 120, 240, 300)
    assert settings.interval("retry-recipients-after") == 60


def test_old_rates_are_read_as_rates() -> None:
    settings = snapshot("<domain *>\nmax-msg-per-hour 100\n</domain>").effective("a.b", "{default}")

    assert settings.rate("max-msg-rate") == (100, 3600.0)


def test_ten_thousand_domains_cost_no_more_than_ten() -> None:
    blocks = "".join(f"<domain d{number}.example>\nmax-smtp-out 2\n</domain>\n" for number in range(2000))
    made = snapshot(blocks)

    assert made.effective("d1999.example", "{default}").integer("max-smtp-out") == 2
    assert made.effective("d2000.example", "{default}").integer("max-smtp-out") == 20
