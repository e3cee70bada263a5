"""Lines of accounting files, compared letter by letter."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.events.accounting import (
    Format,
    FormatOptions,
    HeaderMapping,
    column_names,
    iso_time,
    quoted,
    record_type,
)
from mta.message.event import Event, values_of

COMMON = (
    "timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,"
    "dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool"
)


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    """Lines hold local time: this machine's zone must not decide the outcome."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    iso_time.cache_clear()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()
    iso_time.cache_clear()


def delivered(**changes: object) -> Event:
    fields: dict[str, object] = {
        "type": "d",
        "event_id": "e1",
        "time_logged": 1549662845.9,
        "time_queued": 1549662843.2,
        "originator": "news@example.org",
        "recipient": "a@example.com",
        "dsn_action": "relayed",
        "dsn_status": "2.0.0",
        "dsn_diag": "smtp;250 2.0.0 Ok: queued as 4A",
        "dsn_mta": "mx1.example.com (192.0.2.7)",
        "bounce_category": "success",
        "source_type": "smtp",
        "source_mta": "app.example.org (127.0.0.1)",
        "delivery_type": "smtp",
        "delivery_source_ip": "127.0.0.11",
        "delivery_destination_ip": "192.0.2.7",
        "esmtp": "ENHANCEDSTATUSCODES,8BITMIME,SMTPUTF8",
        "size": 10345,
        "vmta": "vmta1",
        "job_id": "spring",
        "envelope_id": "env-9",
        "queue": "example.com/vmta1",
        "vmta_pool": "outbound",
        "source_user": "app",
        "received_source_ip": "127.0.0.1",
        "received_destination_ip": "127.0.0.5",
        "tls_protocol": "TLSv1.3",
        "tls_cipher": "TLS_AES_256_GCM_SHA384",
        "queue_id": "q1",
        "captured": {"x-campaign": "may, 2019", "subject": "Hi"},
    }
    return Event(**{**fields, **changes})  # type: ignore[arg-type]


def test_delivery_record_has_every_default_column_in_order() -> None:
    format_ = Format(FormatOptions(types=("d",)))

    assert format_.header.decode() == f"type,{COMMON}\n"
    assert format_.line(delivered()) == (
        "d,2019-02-08 21:54:05+0000,2019-02-08 21:54:03+0000,news@example.org,a@example.com,,relayed,"
        "2.0.0 (success),smtp;250 2.0.0 Ok: queued as 4A,mx1.example.com (192.0.2.7),success,smtp,"
        'app.example.org (127.0.0.1),smtp,127.0.0.11,192.0.2.7,"ENHANCEDSTATUSCODES,8BITMIME,SMTPUTF8",10345,'
        "vmta1,spring,env-9,example.com/vmta1,outbound\n"
    )


def test_bounce_record_explains_its_status_and_has_no_size() -> None:
    event = delivered(
        type="b",
        dsn_action="failed",
        dsn_status="5.1.1",
        dsn_diag='smtp;550 5.1.1 no "such" user, sorry',
        bounce_category="bad-mailbox",
    )

    assert Format(FormatOptions(types=("b",))).line(event) == (
        "b,2019-02-08 21:54:05+0000,2019-02-08 21:54:03+0000,news@example.org,a@example.com,,failed,"
        '5.1.1 (bad destination mailbox address),"smtp;550 5.1.1 no ""such"" user, sorry",'
        "mx1.example.com (192.0.2.7),bad-mailbox,smtp,app.example.org (127.0.0.1),smtp,127.0.0.11,192.0.2.7,"
        '"ENHANCEDSTATUSCODES,8BITMIME,SMTPUTF8",,vmta1,spring,env-9,example.com/vmta1,outbound\n'
    )


def test_queue_failure_has_columns_of_its_own() -> None:
    event = Event(
        "tq",
        "e2",
        1549662845.0,
        dsn_status="4.4.1",
        dsn_diag="smtp;451 4.4.1 no answer",
        delivery_type="smtp",
        delivery_source_ip="127.0.0.11",
        vmta="vmta1",
        queue="example.com/vmta1",
    )
    format_ = Format(FormatOptions(types=("tq",)))

    assert format_.header == (
        b"type,timeLogged,dsnStatus,dsnDiag,dsnMta,dlvType,dlvSourceIp,dlvDestinationIp,vmta,queue\n"
    )
    assert format_.line(event) == (
        "tq,2019-02-08 21:54:05+0000,4.4.1 (no answer from host),smtp;451 4.4.1 no answer,,smtp,127.0.0.11,,"
        "vmta1,example.com/vmta1\n"
    )


def test_receipt_names_both_ends_of_the_connection() -> None:
    format_ = Format(FormatOptions(types=("r",)))

    assert format_.header == (
        b"type,timeLogged,orig,rcpt,orcpt,srcType,srcMta,rcvSourceIp,rcvDestinationIp,vmta,jobId,envId,vmtaPool\n"
    )
    assert format_.line(delivered(type="r", vmta="outbound")) == (
        "r,2019-02-08 21:54:05+0000,news@example.org,a@example.com,,smtp,app.example.org (127.0.0.1),"
        "127.0.0.1,127.0.0.5,outbound,spring,env-9,outbound\n"
    )


def test_columns_of_several_types_are_united_in_the_order_first_seen() -> None:
    format_ = Format(FormatOptions(types=("d", "b", "r")))

    assert format_.header.decode() == f"type,{COMMON},rcvSourceIp,rcvDestinationIp\n"
    assert format_.line(delivered()).endswith(",outbound,,\n")
    line = format_.line(delivered(type="r"))
    assert line.startswith("r,2019-02-08 21:54:05+0000,,news@example.org,a@example.com,,,,,,,smtp,")
    assert line.endswith(",127.0.0.1,127.0.0.5\n")


def test_type_that_was_not_asked_for_has_no_line() -> None:
    assert Format(FormatOptions(types=("b",))).line(delivered()) == ""
    assert Format(FormatOptions(types=("b",))).types == {"b"}


def test_times_may_be_epoch_seconds() -> None:
    format_ = Format(
        FormatOptions(types=("d",), fields={"d": ["timeLogged", "timeFirstAttempt"]}, iso_times=False)
    )

    assert format_.line(delivered()) == "d,1549662845,\n"


def test_lines_may_end_in_cr_lf() -> None:
    format_ = Format(FormatOptions(types=("d",), fields={"d": ["rcpt"]}, line_end="\r\n"))

    assert format_.header + format_.line(delivered()).encode() == b"type,rcpt\r\nd,a@example.com\r\n"


def test_optional_columns_come_when_they_are_named() -> None:
    names = (
        "totalSecondsQueued,userString,dlvTlsProtocol,dlvTlsCipher,rcvSmtpUser,queueId,recordId,timeImprinted"
    )
    options = FormatOptions(types=("d",), fields={"d": names.split(",")}, user_string="host, 7")

    assert Format(options).line(delivered()) == ('d,2,"host, 7",TLSv1.3,TLS_AES_256_GCM_SHA384,app,q1,e1,\n')


def test_header_columns_keep_the_spelling_asked_for_and_quote_what_they_hold() -> None:
    format_ = Format(
        FormatOptions(types=("d",), fields={"d": ["rcpt", "header_X-Campaign", "header_X-None"]})
    )

    assert format_.header == b"type,rcpt,header_X-Campaign,header_X-None\n"
    assert format_.line(delivered()) == 'd,a@example.com,"may, 2019",\n'


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        (["*"], ("a", "b", "c")),
        (["*", "!b"], ("a", "c")),
        (["!b", "*"], ("a", "c")),
        (["c", "*", "!a"], ("c", "b")),
        (["b", "header_X", "b"], ("b", "header_X")),
        ([], ()),
        ([" * ", " !c "], ("a", "b")),
    ],
)
def test_record_fields_choose_add_and_leave_out(entries: list[str], chosen: tuple[str, ...]) -> None:
    assert column_names(("a", "b", "c"), entries) == chosen


def test_column_names_are_known_in_any_case() -> None:
    assert column_names((), ["JOBID", "dsndiag", "Header_X-Foo"]) == ("jobId", "dsnDiag", "Header_X-Foo")


def test_column_that_nobody_knows_stays_empty_and_is_reported() -> None:
    format_ = Format(FormatOptions(types=("d",), fields={"d": ["rcpt", "nonsense"]}))

    assert format_.line(delivered()) == "d,a@example.com,\n"
    assert format_.unknown == ["nonsense"]


def test_header_may_replace_a_column_and_the_first_mapping_wins() -> None:
    mappings = (
        HeaderMapping("d", "x-none", "jobId"),
        HeaderMapping("d", "subject", "jobId"),
        HeaderMapping("d", "x-campaign", "jobId"),
        HeaderMapping("b", "subject", "rcpt"),
    )
    options = FormatOptions(types=("d",), fields={"d": ["jobId", "rcpt"]}, mappings=mappings)

    assert Format(options).line(delivered()) == "d,Hi,a@example.com\n"
    assert Format(options).line(delivered(captured={})) == "d,spring,a@example.com\n"


def test_hostile_reply_stays_on_one_line_without_control_characters() -> None:
    hostile = 'smtp;550 \x1b[31m"red"\r\nd,forged,line\x00\u2028end'
    format_ = Format(FormatOptions(types=("d",), fields={"d": ["dsnDiag"]}))

    line = format_.line(delivered(dsn_diag=hostile))

    assert line == 'd,"smtp;550  [31m""red"" d,forged,line end"\n'


def test_refused_connection_and_recipient_are_spelt_c_and_r_in_the_reject_log() -> None:
    format_ = Format(FormatOptions(types=("C", "R")))
    common = {"received_source_ip": "192.0.2.9", "received_destination_ip": "127.0.0.1"}
    connection = Event(
        "C", "e", 1.0, dsn_status="4.7.0", dsn_diag="smtp;421 4.7.0 too many", text="too many", **common
    )
    recipient = Event(
        "R",
        "e",
        1.0,
        originator="s@x",
        recipient="r@y",
        dsn_status="5.7.1",
        dsn_diag="smtp;550 5.7.1 no",
        source_mta="pc (192.0.2.9)",
        text="relaying denied",
        **common,
    )

    assert format_.header.decode() == (
        "type,timeLogged,rcvSourceIp,rcvDestinationIp,dsnStatus,dsnDiag,reason,srcMta,rcvSmtpUser,orig,rcpt\n"
    )
    assert format_.line(connection) == (
        "c,1970-01-01 00:00:01+0000,192.0.2.9,127.0.0.1,4.7.0 (other or undefined security status),"
        "smtp;421 4.7.0 too many,too many,,,,\n"
    )
    assert format_.line(recipient) == (
        "r,1970-01-01 00:00:01+0000,192.0.2.9,127.0.0.1,5.7.1 (delivery not authorized),"
        "smtp;550 5.7.1 no,relaying denied,pc (192.0.2.9),,s@x,r@y\n"
    )


def test_received_and_refused_recipients_never_mix() -> None:
    assert Format(FormatOptions(types=("r",))).line(Event("R", "e", 1.0)) == ""
    assert Format(FormatOptions(types=("C", "R"))).line(Event("r", "e", 1.0)) == ""


@pytest.mark.parametrize(
    ("name", "found"),
    [("d", "d"), ("Delivery", "d"), ("transient-queue", "tq"), ("received", "r"), ("rb", "rb"), ("x", "")],
)
def test_long_names_of_record_types(name: str, found: str) -> None:
    assert record_type(name) == found


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_any_values_come_back_from_a_csv_reader_but_for_their_control_characters(values: list[str]) -> None:
    line = ",".join(quoted(value) for value in values)

    assert "\n" not in line
    rows = list(csv.reader(io.StringIO(line + "\n")))
    assert len(rows) == 1 or values == [""]
    cells = rows[0] if rows else [""]
    assert len(cells) == len(values) or values == [""]
    for cell, value in zip(cells, values, strict=False):
        if value.isprintable():
            assert cell == value


WORDS = st.text(st.sampled_from('ab ,"\n\x7f\x85\u2028\u00a0é☂'), max_size=4)


@given(diag=WORDS, recipient=WORDS, job_id=WORDS, esmtp=WORDS)
def test_each_cell_is_the_same_in_a_line_as_alone(diag: str, recipient: str, job_id: str, esmtp: str) -> None:
    event = delivered(dsn_diag=diag, recipient=recipient, job_id=job_id, esmtp=esmtp)
    together = Format(FormatOptions(types=("d",)))

    alone = []
    for column in together.columns[1:]:
        line = Format(FormatOptions(types=("d",), fields={"d": [column]})).line(event)
        alone.append(line.removesuffix("\n").removeprefix("d,"))

    assert together.line(event) == ",".join(["d", *alone]) + "\n"


@given(
    st.lists(
        st.builds(
            lambda kind, diag, job_id, size, queued: delivered(
                type=kind, dsn_diag=diag, job_id=job_id, size=size, time_queued=queued
            ),
            st.sampled_from(["d", "b", "t", "tq", "r"]),
            WORDS,
            WORDS,
            st.sampled_from([0, 7]),
            st.sampled_from([0.0, 1549662843.2]),
        ),
        max_size=8,
    )
)
def test_lines_of_a_batch_are_those_of_its_events_one_by_one(events: list[Event]) -> None:
    options = FormatOptions(
        types=("d", "t", "tq"),
        fields={"d": ["*", "totalSecondsQueued", "header_Subject"]},
        mappings=(HeaderMapping("d", "x-none", "jobId"), HeaderMapping("t", "x-campaign", "envId")),
    )
    format_ = Format(options)

    assert format_.text(format_.lines(list(map(values_of, events)))) == "".join(map(format_.line, events))


@given(st.lists(st.tuples(*[st.text(st.sampled_from('ab ,"é☂'), max_size=4)] * 3), min_size=1, max_size=6))
def test_lines_without_control_characters_are_those_of_the_csv_module(values: list[tuple[str, ...]]) -> None:
    names = ("rcpt", "dsnDiag", "dlvEsmtpAvailable")
    format_ = Format(FormatOptions(types=("d",), fields={"d": names}))
    theirs = io.StringIO()
    csv.writer(theirs, lineterminator="\n").writerows([("d", *row) for row in values])

    events = [delivered(recipient=one, dsn_diag=two, esmtp=three) for one, two, three in values]

    assert format_.text(format_.lines(list(map(values_of, events)))) == theirs.getvalue()
