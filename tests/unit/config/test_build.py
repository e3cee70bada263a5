"""Everything that can be wrong is said at once, with file and line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.directives import TABLE
from mta.config.load import load_text


def problems(text: str) -> list[str]:
    return [
        f"{found.line}: {found.severity.value}: {found.text}" + (f" ({found.hint})" if found.hint else "")
        for found in load_text(text).problems
    ]


def test_all_errors_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = "max-smtp-oot 1\nspool /a\n<domain *>\nretry-after soon\nfoo\n</domain>\n<domian x>\n</domian>"

    assert problems(text) == [
        "1: error: unknown directive max-smtp-oot at the top level (did you mean max-smtp-out?)",
        "4: error: retry-after: 'soon' is not an interval such as 4d12h, 30m or 300s",
        "5: error: unknown directive foo in <domain>",
        "7: error: unknown tag <domian> (did you mean <domain>?)",
    ]


def test_a_configuration_with_errors_gives_no_snapshot() -> None:
    loaded = load_text("nonsense")

    assert loaded.snapshot is None
    assert len(loaded.errors) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("always-allow-relaying yes", "always-allow-relaying doesn't belong at the top level"),
        ("<source 0/0>\nmax-msg-rate 5/h\n</source>", "max-msg-rate doesn't belong in <source>"),
        ("<domain *>\n<source 0/0>\n</source>\n</domain>", "<source> doesn't belong inside <domain>"),
        ("<domain>\n</domain>", "<domain> needs an argument, e.g. <domain *.example.com>"),
        ("<domain yahoo.*>\n</domain>", "is not a domain pattern"),
        ("<source 10.0.0.0/99>\n</source>", "is not an IP address or network"),
        ("<domain $x>\n</domain>", "$x is not defined"),
        ("total-max-smtp-out many", "'many' is not a whole number"),
        ("total-max-smtp-out", "total-max-smtp-out needs a value"),
        ('total-max-smtp-out ""', "can't be empty"),
        ('host-name "a', "a quote is not closed"),
        ("domain-key x", "domain-key is SELECTOR,DOMAIN,FILE"),
        ("smtp-listener 300.0.0.1:25", "is not an IP address"),
        ("smtp-listener 10/8:25", "a listener has one address"),
        ("smtp-listener 127.0.0.1:99999", "is not a port"),
        ("<virtual-mta-pool p>\nvirtual-mta v\n</virtual-mta-pool>", "pool p: there is no virtual-mta v"),
        ("<virtual-mta-pool p>\n</virtual-mta-pool>", "virtual-mta-pool p has no members"),
        ("<source 0/0>\ndefault-virtual-mta v\n</source>", "there is no virtual MTA or pool v"),
        ("<domain *>\nsmtp-pattern-list x\n</domain>", "there is no <smtp-pattern-list> x"),
        ("<smtp-pattern-list x>\nreply /a/ explode\n</smtp-pattern-list>", "'explode' is not an action"),
        ("<smtp-pattern-list x>\nreply /(/ skip-mx\n</smtp-pattern-list>", "is not valid"),
        ("<bounce-category-patterns>\nfoo\n</bounce-category-patterns>", "between slashes is needed"),
        ('<bounce-rule>\nregex "5" action explode\n</bounce-rule>', "a bounce rule is"),
        ("<virtual-mta v>\nsmtp-source-host fd00::/64 a.b\n</virtual-mta>", "more than 4096 addresses"),
        ("domain-macro a $a", "$a is defined by itself"),
        ("smtp-source-host 1.2.3 x", "is not an IP address"),
    ],
)
def test_mistakes_are_errors(text: str, problem: str) -> None:
    loaded = load_text(text)

    assert [found.text for found in loaded.errors if problem in found.text], loaded.problems
    assert loaded.snapshot is None


def test_a_virtual_mta_and_a_pool_cant_share_a_name() -> None:
    text = "<virtual-mta a>\n</virtual-mta>\n<virtual-mta-pool a>\nvirtual-mta a\n</virtual-mta-pool>"

    assert any("can't share a name" in problem for problem in problems(text))


def test_a_virtual_mta_can_be_in_only_one_pool_with_domain_blocks() -> None:
    pool = "<virtual-mta-pool {}>\nvirtual-mta v\n{}</virtual-mta-pool>\n"
    domain = "<domain *>\n</domain>\n"
    vmta = "<virtual-mta v>\n</virtual-mta>\n"

    assert problems(vmta + pool.format("p", domain) + pool.format("q", "")) == []
    found = problems(vmta + pool.format("p", domain) + pool.format("q", domain))
    assert found == [
        "9: error: virtual-mta v is in two pools with <domain> blocks: p and q "
        "(only one pool may give it settings for domains)"
    ]


def test_names_that_were_never_powermtas_are_warned_about_and_not_obeyed() -> None:
    loaded = load_text("<domain *>\nmax-conn-rate 1/h\n</domain>")

    assert loaded.snapshot is not None
    assert "is not a PowerMTA directive and is not obeyed" in loaded.problems[0].text
    assert loaded.snapshot.effective("a.b", "{default}").rate("max-connect-rate") is None


def test_names_of_our_own_are_obeyed_under_the_real_name_with_a_warning() -> None:
    loaded = load_text("<source *>\nallow-relay yes\n</source>")

    assert loaded.snapshot is not None
    assert [found.line for found in loaded.problems] == [1, 2]
    assert loaded.snapshot.source("192.0.2.1").boolean("always-allow-relaying")


def test_old_names_are_obeyed_in_silence() -> None:
    loaded = load_text("<domain a.b>\nroute [127.0.0.1]:2526\n</domain>")

    assert loaded.snapshot is not None
    assert loaded.problems == ()
    assert loaded.snapshot.effective("a.b", "{default}").text("smtp-hosts") == "[127.0.0.1]:2526"


def test_a_domain_directive_in_a_virtual_mta_is_read_as_one_for_all_domains() -> None:
    loaded = load_text("<virtual-mta v>\nmax-msg-rate 7/h\n</virtual-mta>")

    assert loaded.snapshot is not None
    assert "belongs in <domain>" in loaded.problems[0].text
    assert loaded.snapshot.effective("a.b", "v").rate("max-msg-rate") == (7, 3600.0)
    assert loaded.snapshot.effective("a.b", "{default}").rate("max-msg-rate") is None


def test_a_mistake_in_a_macro_made_block_is_reported_once() -> None:
    assert len(problems("domain-macro m a.b,c.d,e.f\n<domain $m>\nmax-smtp-out x\n</domain>")) == 1


def test_case_of_names_and_booleans_does_not_matter() -> None:
    loaded = load_text("<Domain A.b>\nMax-SMTP-Out 3\nDKIM-sign True\n</DOMAIN>")

    assert loaded.problems == ()
    assert loaded.snapshot is not None
    assert loaded.snapshot.effective("a.b", "{default}").integer("max-smtp-out") == 3


NAMES = sorted({row.name for row in TABLE})
TAGS = ["domain", "source", "virtual-mta", "virtual-mta-pool", "smtp-pattern-list", "pattern-list"]
ARGUMENTS = ["*", "a.b", "0/0", "v", "$m", "{auth}"]
VALUES = ["", "1", "yes", "1/h", "10m", "a.b", "$m", '"', '""', "/x/ skip-mx", "127.0.0.1", "0/0", "50M", "€"]
LINES = st.one_of(
    st.builds("{} {}".format, st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds("<{} {}>".format, st.sampled_from(TAGS), st.sampled_from(ARGUMENTS)),
    st.builds("</{}>".format, st.sampled_from(TAGS)),
    st.just("domain-macro m a.b, *.c"),
    st.text(max_size=20),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=25).map("\n".join))
def test_no_configuration_raises_and_every_problem_has_file_and_line(text: str) -> None:
    loaded = load_text(text)

    last = text.count("\n") + text.count("\r") + 1
    for found in loaded.problems:
        assert found.file.name == "<text>"
        assert 1 <= found.line <= last
        assert found.text
    assert (loaded.snapshot is None) == bool(loaded.errors)
    if loaded.snapshot is not None:
        loaded.snapshot.effective("a.b", "v")
        loaded.snapshot.source("192.0.2.1", "{auth}")


@pytest.mark.parametrize("opening", ["<domain *>", "<pattern-list p>", "* <pattern-list>", "<virtual-mta v>"])
def test_absurdly_deep_blocks_are_errors_and_nothing_worse(opening: str) -> None:
    loaded = load_text("<pattern-list p>\n" + f"{opening}\n" * 5000)

    assert any("inside more than 32 other blocks" in found.text for found in loaded.errors)
