"""Deadlines, back-pressure and bounds of one connection, with time and transport on paper."""

from __future__ import annotations

import pytest

from mta.ingress.connection import PARTING_PATIENCE, Mode
from mta.ingress.wire import BACKLOG, CROWDED_PATIENCE, SLOWEST
from tests.support.papercall import PaperCall

TIMES = "always-allow-relaying yes\nsmtp-command-timeout 100s\nsmtp-data-timeout 50s"
MESSAGE = b"A: b\r\n\r\ntext\r\n.\r\n"


def test_silent_client_is_sent_away_when_its_patience_ends() -> None:
    call = PaperCall(source=TIMES)
    call.heard()

    call.loop.advance(99.9)
    assert call.heard() == []
    call.loop.advance(0.2)

    assert call.heard() == ["421 4.4.2 Timeout, closing connection"]
    assert call.transport.is_closed
    assert not call.transport.is_aborted


def test_a_complete_command_renews_patience_and_dripped_octets_do_not() -> None:
    call = PaperCall(source=TIMES)
    call.loop.advance(90)
    call.say(b"NOOP\r\n")
    call.loop.advance(90)
    assert not call.transport.is_closed
    for _ in range(9):
        call.loop.advance(1)
        call.say(b"N")

    call.loop.advance(1.1)

    assert call.heard()[-1].startswith("421 4.4.2")


def test_content_must_not_pause_and_must_not_crawl() -> None:
    pausing = PaperCall(source=TIMES)
    pausing.begin(data=True)
    pausing.say(b"x" * 70 + b"\r\n")
    pausing.loop.advance(49.9)
    assert not pausing.transport.is_closed
    pausing.loop.advance(0.2)
    assert pausing.codes() == ["421"]

    crawling = PaperCall(source=TIMES)
    crawling.begin(data=True)
    passed = 0
    while not crawling.transport.is_closed:
        crawling.say(b"x")
        crawling.loop.advance(1)
        passed += 1
    assert 50 <= passed <= 81
    assert crawling.partition.stored == []


def test_slow_but_steady_content_arrives() -> None:
    call = PaperCall(source=TIMES)
    call.begin(data=True)
    line = b"x" * 78 + b"\r\n"
    call.say(b"A: b\r\n\r\n")
    for _ in range(400):
        call.say(line * (2 * SLOWEST // 80))
        call.loop.advance(1.9)
    call.say(b".\r\n")

    assert call.codes() == ["250"]


def test_when_slots_are_scarce_idle_clients_get_less_time() -> None:
    call = PaperCall("total-max-smtp-in 1", source=TIMES)
    call.loop.advance(CROWDED_PATIENCE + 31)

    assert call.heard()[-1].startswith("421 4.4.2")


def test_a_slow_disk_is_not_the_clients_fault() -> None:
    call = PaperCall(source=TIMES, commits=False)
    call.begin(data=True)
    call.say(MESSAGE)

    call.loop.advance(3600)
    assert not call.transport.is_closed
    call.partition.commit()

    assert call.codes() == ["250"]


def test_only_one_timer_whatever_is_said() -> None:
    call = PaperCall()
    call.begin()
    for _ in range(50):
        call.say(b"DATA\r\n", MESSAGE, b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n")

    assert len(call.loop._timers) == 1
    call.hang_up()
    assert all(timer[2].is_cancelled for timer in call.loop._timers)


def test_whoever_does_not_read_replies_is_not_read_either() -> None:
    call = PaperCall(source=TIMES)
    call.begin()
    call.conversation.pause_writing()
    assert not call.transport.is_reading
    writes = call.transport.writes

    call.say(b"RCPT TO:<x@y.example>\r\n" * 1000)

    assert call.transport.writes == writes
    call.conversation.resume_writing()
    call.loop.run()
    assert call.codes() == ["250"] * 1000
    assert call.transport.is_reading


def test_whoever_pipelines_thousands_of_commands_gives_way_to_others() -> None:
    call = PaperCall()
    call.begin()

    call.conversation.data_received(b"RCPT TO:<x@y.example>\r\n" * 1000)

    first = len(call.codes())
    assert 200 <= first <= 300
    assert not call.transport.is_reading
    call.loop.run()
    assert first + len(call.codes()) == 1000
    assert call.transport.is_reading


def test_whoever_never_reads_is_cut_off_without_more_words() -> None:
    call = PaperCall(source=TIMES)
    call.heard()
    call.conversation.pause_writing()

    call.loop.advance(100)

    assert call.transport.is_aborted
    assert call.heard() == []


def test_commands_behind_a_message_wait_in_bounded_space() -> None:
    call = PaperCall(commits=False)
    call.begin(data=True)
    call.say(MESSAGE + b"NOOP\r\n" * 3)
    assert call.heard() == []
    assert call.transport.is_reading

    call.say(b"RCPT TO:<x@y.example>\r\n" * (BACKLOG // 23 + 1))
    assert not call.transport.is_reading
    call.partition.commit()

    assert call.codes()[:5] == ["250", "250", "250", "250", "503"]
    assert call.transport.is_reading or call.transport.is_closed


def test_last_words_get_a_few_seconds_and_then_the_descriptor_is_taken_back() -> None:
    call = PaperCall()
    call.say(b"QUIT\r\n")
    assert call.transport.is_closed
    assert not call.transport.is_aborted

    call.loop.advance(PARTING_PATIENCE)

    assert call.transport.is_aborted


def test_nothing_is_said_behind_goodbye() -> None:
    call = PaperCall()
    call.heard()

    call.say(b"QUIT\r\nNOOP\r\nNOOP\r\n", b"NOOP\r\n")

    assert call.heard() == ["221 2.0.0 Bye"]


def test_all_messages_that_arrive_at_once_share_one_budget() -> None:
    call = PaperCall(receive_memory=100_000)
    call.begin(data=True)
    call.reception.receiving = 95_000

    call.say((b"x" * 78 + b"\r\n") * 100)

    assert call.reception.receiving == 95_000
    call.say(b".\r\n")
    assert call.heard()[0].startswith("452 4.3.1")
    assert call.reception.receiving == 95_000


@pytest.mark.parametrize("last", [b".\r\n", b""])
def test_the_budget_is_given_back_however_it_ends(last: bytes) -> None:
    call = PaperCall()
    call.begin(data=True)
    call.say((b"x" * 78 + b"\r\n") * 1000)
    assert call.reception.receiving == 80_000

    call.say(last) if last else call.hang_up()

    assert call.reception.receiving == 0


def test_oversized_content_is_refused_at_its_end_or_cut_off_at_twice_the_limit() -> None:
    source = "always-allow-relaying yes\nmax-message-size 100000"
    line = b"x" * 78 + b"\r\n"
    patient = PaperCall(source=source)
    patient.begin(data=True)
    patient.say(line * 2000)
    patient.say(b".\r\nNOOP\r\n")
    assert patient.heard() == ["552 5.3.4 Message is larger than the limit", "250 2.0.0 OK"]

    endless = PaperCall(source=source)
    endless.begin(data=True)
    said = 0
    while not endless.transport.is_closed:
        endless.say(line * 500)
        said += 40_000
        assert endless.reception.receiving <= 100_000
    assert said < 400_000
    assert endless.heard()[0].startswith("552 5.3.4")


def test_endless_line_without_an_end_is_not_collected() -> None:
    call = PaperCall()
    call.heard()
    while not call.transport.is_closed:
        call.say(b"x" * 1000)
        assert len(call.conversation._buffer) < 20_000

    assert call.heard() == ["421 4.7.0 Command line without an end, closing connection"]


def test_content_line_without_an_end_is_dropped() -> None:
    call = PaperCall()
    call.begin(data=True)
    for _ in range(1000):
        call.say(b"x" * 65_536)
        if call.transport.is_closed:
            break
        assert call.reception.receiving <= 70_000
    else:
        call.say(b"\r\n.\r\n")

    assert call.heard()[0].startswith("550 5.6.0")


def test_end_of_file_in_a_message_leaves_nothing() -> None:
    call = PaperCall()
    call.begin(data=True)
    call.say(b"A: b\r\n\r\ntext\r\n.")

    assert call.conversation.eof_received() is False
    call.hang_up()

    assert call.partition.stored == []
    assert call.reception.guests == set()
    assert call.conversation.mode is Mode.CLOSING


def test_everything_that_was_refused_is_in_the_reject_log() -> None:
    call = PaperCall("relay-domain d.example", source="smtp-command-timeout 10s")
    call.say(b"EHLO h\r\nMAIL FROM:<>\r\nRCPT TO:<x@elsewhere.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    call.say(b"a\rb\r\n.\r\n")
    call.loop.advance(40)

    assert [(event.type, event.dsn_status, event.recipient) for event in call.partition.events] == [
        ("R", "5.7.1", "x@elsewhere.example"),
        ("R", "5.6.11", ""),
        ("C", "4.4.2", ""),
    ]
    assert call.partition.events[0].source_mta == "h (192.0.2.1)"


def test_message_on_its_way_to_the_disk_counts_even_when_its_client_was_hung_up_on() -> None:
    call = PaperCall(source=f"{TIMES}\ndisconnect-on-transient-error yes", commits=False)
    call.begin()
    call.say(b"DATA\r\n", MESSAGE[:5])
    call.say(MESSAGE[5:])
    counted = call.reception.receiving

    call.conversation.close()

    assert counted == call.reception.receiving > 0
    call.partition.commit()
    assert call.reception.receiving == 0
