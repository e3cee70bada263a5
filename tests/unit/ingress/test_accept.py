"""From a submission to the spool: checks, control headers, stamps, results."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.snapshot import Snapshot
from mta.errors import SpoolBroken, SpoolCorrupt, SpoolError, SpoolFull
from mta.ingress.accept import HEADER_LIMIT, Acceptance, AcceptResult
from mta.ingress.queueid import QueueIds
from mta.ingress.relaying import SourcePolicy
from mta.ingress.submission import Client, Submission
from mta.message.envelope import Envelope, Notify
from tests.support.inbound import snapshot_of
from tests.support.memory_partition import MemoryPartition

NOW = 1_790_000_000.0
PLAIN = b"From: a@example.com\r\nSubject: hello\r\n\r\nText.\r\n"
SILENT = SourcePolicy(add_received=False)
CLIENT = Client(
    helo="client.test",
    source_ip="192.0.2.1",
    received_on="192.0.2.25",
    user="app",
    source_mta="client.test (192.0.2.1)",
)
VMTAS = "<virtual-mta one>\n</virtual-mta>\n<virtual-mta-pool group>\nvirtual-mta one\n</virtual-mta-pool>\n"


class FixedClock:
    def now(self) -> float:
        return NOW

    def wall(self) -> float:
        return NOW


class Desk:
    """An acceptance over a partition in memory that commits at once."""

    def __init__(self, text: str = VMTAS) -> None:
        self.snapshot: Snapshot = snapshot_of(text)
        self.partition = MemoryPartition()
        self.order: list[str] = []
        clock = FixedClock()
        self.acceptance = Acceptance(
            snapshot=lambda: self.snapshot,
            partition=self.partition,
            clock=clock,
            queue_ids=QueueIds(clock),
            admitted=self.admit,
        )

    def admit(self, envelope: Envelope, message: int, size: int) -> None:
        self.order.append(f"admitted {message} of {size} octets")

    def hand_in(self, content: bytes | list[bytes] = PLAIN, **facts: Any) -> AcceptResult:
        chunks = [content] if isinstance(content, bytes) else content
        known: dict[str, Any] = {
            "originator": "a@example.com",
            "recipients": [("b@example.net", 0, "")],
            "source": SILENT,
            "client": CLIENT,
        }
        known.update(facts)
        self.results: list[AcceptResult] = []
        results = self.results

        def done(result: AcceptResult) -> None:
            self.order.append("done")
            results.append(result)

        self.acceptance.accept(Submission(chunks=chunks, size=sum(map(len, chunks)), **known), done)
        if self.partition.holds_flushes and not results:
            return AcceptResult("")
        assert len(results) == 1
        return results[0]

    @property
    def envelope(self) -> Envelope:
        return self.partition.stored[-1][0]

    @property
    def body(self) -> bytes:
        return self.partition.stored[-1][1]


def test_message_is_admitted_once_and_before_the_client_is_told() -> None:
    desk = Desk()

    result = desk.hand_in()

    assert result.refusal is None
    assert desk.order == [f"admitted 1 of {len(PLAIN)} octets", "done"]
    assert desk.envelope.queue_id == result.queue_id
    assert desk.body == PLAIN


def test_envelope_has_what_the_client_said() -> None:
    desk = Desk()

    desk.hand_in(
        originator="",
        recipients=[("b@Example.NET", int(Notify.FAILURE), "rfc822;x@y"), ("c@example.org", 0, "")],
        is_8bit=True,
        is_smtputf8=True,
        ret=1,
        envelope_id="e1",
        suppress_dsn=True,
    )

    envelope = desk.envelope
    assert envelope.originator == ""
    assert envelope.received == NOW
    assert [tuple(vars_of) for vars_of in map(fields, envelope.recipients)] == [
        ("b@Example.NET", "example.net", Notify.FAILURE, "rfc822;x@y"),
        ("c@example.org", "example.org", 0, ""),
    ]
    assert envelope.source_mta == "client.test (192.0.2.1)"
    assert (envelope.source_ip, envelope.received_on, envelope.source_user) == (
        "192.0.2.1",
        "192.0.2.25",
        "app",
    )
    assert (envelope.is_8bit, envelope.is_smtputf8, envelope.ret, envelope.envelope_id) == (
        True,
        True,
        1,
        "e1",
    )
    assert envelope.suppress_dsn
    assert envelope.vmta == "{default}"


def fields(recipient: Any) -> tuple[Any, ...]:
    return recipient.address, recipient.queue_domain, recipient.notify, recipient.orcpt


def test_received_line_stands_on_top_and_names_the_queue_id() -> None:
    desk = Desk()

    result = desk.hand_in(source=SourcePolicy())

    assert desk.body.startswith(
        b"Received: from client.test ([192.0.2.1])\r\n\tby mx.test (mta) with ESMTP id "
    )
    assert result.queue_id.encode() in desk.body.partition(b"\r\n\tfor <b@example.net>;")[0]
    assert desk.body.endswith(PLAIN)


def test_received_line_hides_the_source_and_many_recipients() -> None:
    desk = Desk()

    desk.hand_in(source=SourcePolicy(hide_source=True), recipients=[("b@x.test", 0, ""), ("c@x.test", 0, "")])

    assert desk.body.startswith(b"Received: by mx.test (mta) with ESMTP id ")
    assert b"@x.test" not in desk.body


@pytest.mark.parametrize(
    ("policy", "content", "expected"),
    [
        (
            SourcePolicy(add_received=False, add_date="yes"),
            PLAIN,
            b"Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n" + PLAIN,
        ),
        (SourcePolicy(add_received=False, add_date="yes"), b"DATE: x\r\n\r\n", b"DATE: x\r\n\r\n"),
        (
            SourcePolicy(add_received=False, add_date="override"),
            b"A: b\r\nDate: x\r\n y\r\n\r\n",
            b"Date: Mon, 21 Sep 2026 14:13:20 +0000\r\nA: b\r\n\r\n",
        ),
        (
            SourcePolicy(add_received=False, add_message_id=True),
            b"message-id: <x>\r\n\r\n",
            b"message-id: <x>\r\n\r\n",
        ),
        (
            SourcePolicy(add_received=False, remove_received=True),
            b"Received: a\r\n\tb\r\nA: b\r\nRECEIVED: c\r\n\r\nReceived: d\r\n",
            b"A: b\r\n\r\nReceived: d\r\n",
        ),
    ],
)
def test_header_lines_are_added_and_removed_as_configured(
    policy: SourcePolicy, content: bytes, expected: bytes
) -> None:
    desk = Desk()

    desk.hand_in(content, source=policy)

    assert desk.body == expected


def test_message_id_is_made_of_queue_id_and_host() -> None:
    desk = Desk()

    result = desk.hand_in(source=SourcePolicy(add_received=False, add_message_id=True))

    assert desk.body == f"Message-ID: <{result.queue_id}@mx.test>\r\n".encode() + PLAIN


CONTROL = (
    b"X-Virtual-MTA: group\r\nFrom: a@example.com\r\nX-JOB:\r\n spring\r\nx-envid: e 9\r\n\r\nX-Job: body\r\n"
)


def test_control_headers_are_obeyed_and_taken_out() -> None:
    desk = Desk()

    desk.hand_in(
        CONTROL,
        source=SourcePolicy(add_received=False, process_vmta=True, process_job=True, process_envid=True),
    )

    envelope = desk.envelope
    assert (envelope.vmta, envelope.vmta_pool) == ("one", "group")
    assert (envelope.job_id, envelope.envelope_id) == ("spring", "e 9")
    assert desk.body == b"From: a@example.com\r\n\r\nX-Job: body\r\n"


def test_control_headers_stay_where_told_and_mean_nothing_where_not_processed() -> None:
    desk = Desk()

    desk.hand_in(
        CONTROL,
        source=SourcePolicy(
            add_received=False, process_vmta=True, retain_vmta=True, process_job=True, retain_job=True
        ),
    )
    assert desk.envelope.job_id == "spring"
    assert desk.body == CONTROL

    desk.hand_in(CONTROL)
    assert (desk.envelope.vmta, desk.envelope.job_id, desk.envelope.envelope_id) == ("{default}", "", "")
    assert desk.body == CONTROL


def test_job_id_has_its_rank_and_its_prefix() -> None:
    desk = Desk()
    policy = SourcePolicy(add_received=False, process_job=True, job_header="x-campaign", job_prefix="{auth}")

    desk.hand_in(b"X-Campaign: c1\r\n\r\n", source=policy, client=Client(user="app-"))
    assert desk.envelope.job_id == "app-c1"
    desk.hand_in(b"X-Job: j1\r\nX-Campaign: c1\r\n\r\n", source=policy, client=Client(user=""))
    assert desk.envelope.job_id == "j1"
    desk.hand_in(source=SourcePolicy(add_received=False, job_prefix="p-"))
    assert desk.envelope.job_id == "p-"


def test_control_values_can_break_no_record() -> None:
    desk = Desk()
    policy = SourcePolicy(add_received=False, process_job=True, process_envid=True)

    desk.hand_in(
        b'X-Job: a\x01b\x7f"c,d\r\nX-Envid: \xff\xe2\x80\xa8' + b"x" * 400 + b"\r\n\r\n", source=policy
    )

    assert desk.envelope.job_id == 'a b "c,d'
    assert len(desk.envelope.envelope_id) == 256
    assert desk.envelope.envelope_id.isprintable()


def test_unknown_virtual_mta_is_refused() -> None:
    desk = Desk()

    result = desk.hand_in(b"X-Virtual-MTA: nobody\r\n\r\n", source=SourcePolicy(process_vmta=True))

    assert result.refusal is not None
    assert result.refusal.enhanced == "5.3.5"
    assert desk.partition.stored == []


def test_a_forced_virtual_mta_comes_before_the_header() -> None:
    desk = Desk()

    desk.hand_in(CONTROL, vmta="one", source=SourcePolicy(process_vmta=True))

    assert (desk.envelope.vmta, desk.envelope.vmta_pool) == ("one", "")


def test_headers_that_accounting_asks_for_are_captured() -> None:
    desk = Desk(
        VMTAS
        + "<acct-file /tmp/a.csv>\nrecords d,b\nrecord-fields d *, header_X-Tag, header_Subject\n</acct-file>"
    )

    desk.hand_in(b"Subject: a\r\n b\x00\r\nX-TAG: t\r\nOther: o\r\n\r\n")

    assert desk.envelope.captured == {"subject": "a b", "x-tag": "t"}
    assert desk.partition.events == []


def test_receipts_are_recorded_when_an_accounting_file_wants_them() -> None:
    desk = Desk(VMTAS + "<acct-file /tmp/acct.csv>\nrecords r\n</acct-file>")

    result = desk.hand_in(
        recipients=[("b@x.test", 0, "rfc822;o@x.test"), ("c@y.test", 0, "")],
        source=SourcePolicy(default_vmta="group"),
    )

    events = desk.partition.events
    assert [(event.type, event.recipient, event.queue) for event in events] == [
        ("r", "b@x.test", "x.test/one"),
        ("r", "c@y.test", "y.test/one"),
    ]
    assert events[0].orcpt == "rfc822;o@x.test"
    assert (events[0].vmta, events[0].vmta_pool) == ("group", "group")
    assert events[0].queue_id == result.queue_id
    assert len({event.event_id for event in events}) == 2


@pytest.mark.parametrize("error", [None, SpoolFull("no room for outcomes")])
def test_a_message_is_acknowledged_when_its_receipts_are_on_disk_too(error: SpoolError | None) -> None:
    desk = Desk(VMTAS + "<acct-file /tmp/acct.csv>\nrecords r\n</acct-file>")
    desk.partition.holds_flushes = True

    desk.hand_in()
    before = list(desk.order)
    desk.partition.flushed(error)

    assert before == [f"admitted 1 of {len(PLAIN)} octets"]
    assert desk.results[0].refusal is None
    assert desk.results[0].queue_id == desk.partition.events[0].queue_id


def test_a_message_that_is_not_stored_leaves_no_receipt() -> None:
    desk = Desk(VMTAS + "<acct-file /tmp/acct.csv>\nrecords r\n</acct-file>")
    desk.partition.error = SpoolBroken("fsync")

    assert desk.hand_in().refusal is not None
    assert desk.partition.events == []
    assert desk.order == ["done"]


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (SpoolFull("full"), "452 4.3.1"),
        (SpoolBroken("broken"), "451 4.3.0"),
        (SpoolCorrupt("odd"), "451 4.3.0"),
        (SpoolError("any"), "451 4.3.0"),
    ],
)
@pytest.mark.parametrize("is_early", [True, False])
def test_trouble_of_the_spool_is_temporary(error: SpoolError, reply: str, is_early: bool) -> None:
    desk = Desk()
    if is_early:
        desk.partition.refuses = error
    else:
        desk.partition.error = error

    result = desk.hand_in()

    assert str(result.refusal).startswith(reply)
    assert desk.order == ["done"]
    assert (desk.acceptance.refusal(1) is not None) is is_early


def test_loop_is_broken_by_counting_hops() -> None:
    desk = Desk()
    policy = SourcePolicy(max_message_hops=3, remove_received=True)
    hop = b"Received: from x by y; date\r\n"

    assert desk.hand_in(hop * 3 + b"A: b\r\n\r\n" + hop * 9, source=policy).refusal is None
    refusal = desk.hand_in(hop * 4 + b"A: b\r\n\r\n", source=policy).refusal

    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (554, "5.4.6")


def test_header_block_has_a_limit_and_the_body_has_not() -> None:
    desk = Desk()
    line = b"X: " + b"y" * 95 + b"\r\n"

    assert desk.hand_in(b"A: b\r\n\r\n" + line * 3000).refusal is None
    for chunks in ([line * 3000], [line] * 3000, [line * 1400, b"\r\nbody\r\n"]):
        refusal = desk.hand_in(chunks).refusal
        assert refusal is not None
        assert (refusal.code, refusal.enhanced) == (552, "5.3.4")
    assert len(line) * 1400 > HEADER_LIMIT


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"just text\r\n", b"\r\njust text\r\n"),
        (b"\r\nbody only\r\n", b"\r\nbody only\r\n"),
        (b" folded first: line\r\n\r\n", b"\r\n folded first: line\r\n\r\n"),
        (b": no name\r\n\r\n", b"\r\n: no name\r\n\r\n"),
        (b"From x@y Mon Jan 1 00:00:00 2026\r\nA: b\r\n\r\nbody\r\n", b"A: b\r\n\r\nbody\r\n"),
        (b">From x\r\nA: b\r\n\r\nbody\r\n", b"A: b\r\n\r\nbody\r\n"),
        (b"From x\r\njust text\r\n", b"\r\njust text\r\n"),
        (b"From x\r\n", b""),
        (b"", b""),
        (b"A : b\r\n\r\n", b"A : b\r\n\r\n"),
    ],
)
def test_message_without_a_proper_header_stays_readable_under_our_line(
    content: bytes, expected: bytes
) -> None:
    desk = Desk()

    desk.hand_in(content, source=SourcePolicy())

    received, _, rest = desk.body.partition(b" +0000\r\n")
    assert received.startswith(b"Received: ")
    assert rest == expected


def test_nobody_and_far_too_many_are_refused() -> None:
    desk = Desk()

    nobody = desk.hand_in(recipients=[]).refusal
    many = desk.hand_in(recipients=[("a@b.test", 0, "")] * 65_536).refusal

    assert nobody is not None
    assert nobody.code == 554
    assert many is not None
    assert many.enhanced == "5.5.3"


def test_size_limit_holds_for_every_way_in() -> None:
    refusal = Desk().hand_in(source=SourcePolicy(max_message_size=10)).refusal

    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (552, "5.3.4")


def test_new_configuration_holds_from_the_next_message_on() -> None:
    desk = Desk()
    desk.hand_in(source=SourcePolicy(default_vmta="one"))
    desk.snapshot = snapshot_of("<virtual-mta two>\n</virtual-mta>", epoch=2)

    assert desk.hand_in(source=SourcePolicy(default_vmta="one")).refusal is not None
    assert desk.hand_in(source=SourcePolicy(default_vmta="two")).refusal is None
    assert desk.envelope.vmta == "two"


@given(
    st.lists(
        st.sampled_from(
            [b"A: b\r\n", b"\r\n", b" x\r\n", b"X-Job: j\r\n", b"Received: r\r\n", b"..\r\n", b"t"]
        ),
        max_size=12,
    ),
    st.integers(1, 20),
)
def test_chunking_never_matters_and_the_body_is_never_touched(parts: list[bytes], size: int) -> None:
    content = b"".join(parts) + b"\r\n\r\nbody \xff\r\n"
    policy = SourcePolicy(process_job=True, remove_received=True)
    bodies = []
    for pieces in ([content], [content[at : at + size] for at in range(0, len(content), size)]):
        desk = Desk()
        assert desk.hand_in(pieces, source=policy).refusal is None
        bodies.append((desk.envelope.job_id, re.sub(rb"id \S+", b"id X", desk.body)))

    assert bodies[0] == bodies[1]
    assert bodies[0][1].endswith(b"body \xff\r\n")


@pytest.mark.parametrize(
    "corrupt",
    [b"\x00\r\n\r\n", b"A\x00: b\r\n\r\n", b"\xff\xfe: b\r\n\r\n", b":\r\n", b"A:\r\n" * 500 + b"\r\n"],
)
def test_malformed_headers_pass_unharmed(corrupt: bytes) -> None:
    desk = Desk()
    take_all: Callable[..., SourcePolicy] = SourcePolicy
    policy = take_all(
        add_received=False,
        process_vmta=True,
        process_job=True,
        process_envid=True,
        remove_received=True,
        add_date="yes",
    )

    assert desk.hand_in(corrupt, source=policy).refusal is None
    assert desk.body.endswith(corrupt)


def test_a_header_that_accounting_maps_to_a_field_is_captured() -> None:
    desk = Desk(
        VMTAS
        + "<acct-file /tmp/acct.csv>\nrecords b\nmap-header-to-field b header_X-Rcpt rcpt\n</acct-file>\n"
    )

    desk.hand_in(b"X-Rcpt: somebody@example.net\r\nSubject: s\r\n\r\ntext\r\n")

    assert desk.envelope.captured == {"x-rcpt": "somebody@example.net"}
