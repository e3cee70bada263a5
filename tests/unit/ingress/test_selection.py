"""Which virtual MTA takes a message, highest rank first."""

from __future__ import annotations

from typing import Any

import pytest

from mta.ingress.relaying import SourcePolicy
from mta.ingress.selection import Choice, Selection
from mta.smtp.reply import Reply
from tests.support.inbound import snapshot_of

VMTAS = """
<virtual-mta one>
    smtp-source-host 127.0.0.11 one.test
</virtual-mta>
<virtual-mta two>
    smtp-source-host 127.0.0.12 two.test
</virtual-mta>
<virtual-mta three>
</virtual-mta>
<virtual-mta-pool group>
    virtual-mta one
    virtual-mta two
</virtual-mta-pool>
"""


def choose(selection: Selection, policy: SourcePolicy, **facts: Any) -> Choice | Reply:
    known: dict[str, Any] = {
        "header": None,
        "block": b"Subject: x\r\n",
        "originator": "a@example.com",
        "recipients": ["b@example.net"],
        "received_on": "127.0.0.1",
    }
    known.update(facts)
    return selection.choose(policy, **known)


def test_without_any_word_it_is_the_default() -> None:
    assert choose(Selection(snapshot_of(VMTAS)), SourcePolicy()) == Choice("{default}")


@pytest.mark.parametrize("name", [b"two", b"TWO", b" two "])
def test_header_comes_before_everything(name: bytes) -> None:
    text = VMTAS + "<pattern-list p>\nmail-from // virtual-mta=three\n</pattern-list>"
    policy = SourcePolicy(pattern_list="p", default_vmta="one")

    assert choose(Selection(snapshot_of(text)), policy, header=name) == Choice("two")


def test_pattern_list_comes_before_the_default() -> None:
    text = VMTAS + "<pattern-list p>\nmail-from /@example.com$/ virtual-mta=three\n</pattern-list>"
    selection = Selection(snapshot_of(text))
    policy = SourcePolicy(pattern_list="p", default_vmta="one")

    assert choose(selection, policy) == Choice("three")
    assert choose(selection, policy, originator="a@other.example") == Choice("one")


def test_pattern_list_looks_at_headers_and_recipients_and_calls_other_lists() -> None:
    text = (
        VMTAS
        + """
<pattern-list inner>
    rcpt-to /@example.net$/ virtual-mta=two
</pattern-list>
<pattern-list p>
    header Subject /urgent/ virtual-mta=three
    rcpt-to /b@/ call-to:inner
</pattern-list>
"""
    )
    selection = Selection(snapshot_of(text))
    policy = SourcePolicy(pattern_list="p")

    assert choose(selection, policy, block=b"SUBJECT:\r\n very Urgent\r\n") == Choice("three")
    assert choose(selection, policy) == Choice("two")
    assert choose(selection, policy, recipients=["c@example.net"]) == Choice("{default}")


def test_lists_that_call_each_other_for_ever_choose_nothing() -> None:
    text = VMTAS + "<pattern-list a>\nmail-from // call-to:a\n</pattern-list>"

    assert choose(Selection(snapshot_of(text)), SourcePolicy(pattern_list="a")) == Choice("{default}")


def test_pool_members_take_turns_and_each_pool_has_its_own() -> None:
    text = VMTAS + "<virtual-mta-pool other>\nvirtual-mta two\nvirtual-mta three\n</virtual-mta-pool>"
    selection = Selection(snapshot_of(text))
    policy = SourcePolicy(default_vmta="group")

    turns = [choose(selection, policy) for _ in range(3)]

    assert turns == [Choice("one", "group"), Choice("two", "group"), Choice("one", "group")]
    assert choose(selection, SourcePolicy(default_vmta="other")) == Choice("two", "other")


def test_by_smtp_source_ip_takes_the_owner_of_the_local_address() -> None:
    selection = Selection(snapshot_of(VMTAS))
    policy = SourcePolicy(default_vmta="by-smtp-source-ip")

    assert choose(selection, policy, received_on="127.0.0.12") == Choice("two")
    assert choose(selection, policy, received_on="127.0.0.99") == Choice("{default}")


def test_unknown_name_is_refused_with_its_status() -> None:
    refusal = choose(Selection(snapshot_of(VMTAS)), SourcePolicy(), header=b"nobody")

    assert refusal == Reply(550, "5.3.5 No such virtual MTA: nobody", "5.3.5")


@pytest.mark.parametrize("name", [b"evil\x1b[2J", b"x" * 65, "a\u2028b".encode()])
def test_unknown_name_is_not_repeated_when_it_could_do_harm(name: bytes) -> None:
    refusal = choose(Selection(snapshot_of(VMTAS)), SourcePolicy(), header=name)

    assert isinstance(refusal, Reply)
    assert refusal.text == "5.3.5 No such virtual MTA: (unprintable)"


def test_unknown_name_goes_to_the_fallback_or_the_default_where_configured() -> None:
    with_fallback = Selection(snapshot_of(VMTAS + "invalid-virtual-mta-fallback three"))

    assert choose(with_fallback, SourcePolicy(), header=b"nobody") == Choice("three")
    lenient = SourcePolicy(reject_invalid_vmta=False)
    assert choose(Selection(snapshot_of(VMTAS)), lenient, header=b"nobody") == Choice("{default}")


def test_empty_header_is_the_default_only_where_allowed() -> None:
    selection = Selection(snapshot_of(VMTAS))

    assert choose(selection, SourcePolicy(allow_empty_vmta_header=True), header=b"") == Choice("{default}")
    assert isinstance(choose(selection, SourcePolicy(), header=b""), Reply)
    assert choose(selection, SourcePolicy(), header=b"{default}") == Choice("{default}")


def test_queue_domain_follows_queue_to() -> None:
    text = (
        VMTAS
        + """
<domain hotmail.test>
    queue-to live.queue
</domain>
<virtual-mta four>
    <domain hotmail.test>
        queue-to ""
    </domain>
</virtual-mta>
"""
    )
    selection = Selection(snapshot_of(text))

    assert selection.queue_domain("a@HOTMAIL.test", "one") == "live.queue"
    assert selection.queue_domain("a@hotmail.test", "four") == "hotmail.test"
    assert selection.queue_domain("a@b\u00fccher.example", "one") == "xn--bcher-kva.example"
