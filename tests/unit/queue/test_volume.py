from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.config.units import Rate
from mta.queue.key import RECIPIENT_BITS
from mta.queue.reaction import Reaction
from mta.queue.timers import NEVER
from mta.queue.volume import VolumeWindow, volume_window_for
from tests.support.scheduling import A, B, Desk, ref


def desk(**settings: object) -> Desk:
    """A desk on which every message has 100 octets times its number."""
    made = Desk(**settings)  # type: ignore[arg-type]
    for vmta in made.scheduler._registry.vmtas.values():
        vmta.sizes = lambda message: 100 * message
    made.scheduler._registry.sizes = lambda message: 100 * message
    return made


def test_what_is_on_its_way_counts_until_it_is_paid_or_given_back() -> None:
    window = VolumeWindow(Rate(1000, 10.0))

    window.reserve(600)
    assert window.lifts_at(0.0, 400) == 0.0
    assert window.lifts_at(0.0, 401) == NEVER
    window.give_back(600)
    assert window.lifts_at(1.0, 1000) == 1.0
    window.reserve(600)
    window.pay(600, 2.0)
    assert window.lifts_at(3.0, 401) == 12.0


def test_a_message_over_the_whole_limit_goes_out_when_nothing_counts_any_more() -> None:
    window = VolumeWindow(Rate(1000, 10.0))
    window.reserve(300)
    window.pay(300, 0.0)

    assert window.lifts_at(1.0, 5000) == 10.0


def test_a_new_limit_remembers_what_was_paid_and_reserved() -> None:
    window = VolumeWindow(Rate(1000, 10.0))
    window.reserve(900)

    same = volume_window_for(Rate(800, 10.0), window)

    assert same is window
    assert window.lifts_at(0.0, 1) == NEVER
    assert volume_window_for(None, window) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400), st.floats(0, 8), st.booleans()), max_size=40))
def test_no_window_holds_more_than_its_limit_however_long_transfers_take(
    messages: list[tuple[float, int, float, bool]],
) -> None:
    window, now = VolumeWindow(Rate(1000, 10.0)), 0.0
    under_way: list[tuple[float, int, bool]] = []
    delivered: list[tuple[float, int]] = []
    for pause, size, duration, is_delivered in messages:
        now += pause
        for end, held, arrived in sorted(under_way):
            if end <= now:
                under_way.remove((end, held, arrived))
                if arrived:
                    window.pay(held, now)
                    delivered.append((now, held))
                else:
                    window.give_back(held)
        if window.lifts_at(now, size) <= now:
            window.reserve(size)
            under_way.append((now + duration, size, is_delivered))

    for start, _ in delivered:
        assert sum(size for time, size in delivered if start <= time < start + 10.0) <= 1000


def test_only_deliveries_use_up_a_volume_rate() -> None:
    one = desk(max_data_volume_rate=Rate(1000, 60.0), max_smtp_out=1)
    one.admit(A, 6, 5, 4)
    slot = one.connect()

    one.attempt(slot, 0.0, Reaction.FAILED)
    one.attempt(slot, 1.0, Reaction.DELIVERED)
    assert [ref >> RECIPIENT_BITS for ref in one.scheduler.draw(slot, 2.0)] == [4]


def test_a_message_that_does_not_fit_waits_for_the_window_and_is_then_called_for() -> None:
    one = desk(max_data_volume_rate=Rate(1000, 60.0), max_smtp_out=1)
    one.admit(A, 7, 8)
    slot = one.connect()
    one.attempt(slot, 1.0, Reaction.DELIVERED)

    assert one.scheduler.draw(slot, 1.0) == []
    assert one.scheduler.recall(1.0) == []
    assert one.scheduler.next_deadline(1.0) == 61.0
    assert "max-data-volume-rate 1000/1m is used up" in one.scheduler.explain(A, 1.0)
    assert one.scheduler.recall(61.0) == [slot]
    assert one.scheduler.draw(slot, 61.0) == [ref(8)]


def test_messages_on_their_way_hold_the_others_back_until_they_end() -> None:
    one = desk(max_data_volume_rate=Rate(1000, 60.0), max_smtp_out=2)
    one.admit(A, 9, 8)
    first = one.connect()
    one.scheduler.draw(first, 0.0)

    assert one.scheduler.take(1.0) == []
    assert "taken up by messages on their way" in one.scheduler.explain(A, 1.0)
    one.scheduler.settle(first, 2.0, ref(9), Reaction.RETRY_RECIPIENT)
    assert one.scheduler.draw(first, 2.0) == [ref(8)]


def test_a_transaction_counts_once_whatever_number_of_recipients_it_has() -> None:
    one = desk(max_data_volume_rate=Rate(1000, 60.0), max_smtp_out=1)
    one.admit(A, 5, recipients=10)
    one.admit(A, 4)
    slot = one.connect()

    one.attempt(slot, 0.0, Reaction.DELIVERED)

    assert one.scheduler.draw(slot, 0.0) == [ref(4)]


def test_a_connection_that_goes_gives_its_octets_back() -> None:
    one = desk(max_data_volume_rate=Rate(1000, 60.0))
    one.admit(A, 10)
    slot = one.connect()
    one.scheduler.draw(slot, 0.0)
    one.scheduler.release(slot, 1.0)

    (again,) = one.scheduler.take(1.0)
    assert one.scheduler.draw(again, 1.0) == [ref(10)]


def test_all_queues_of_a_virtual_mta_share_its_volume() -> None:
    one = desk(vmta={"max_smtp_data_volume_rate": Rate(1000, 60.0)})
    one.admit(A, 9)
    slot = one.connect()
    one.admit(B, 8)
    assert one.attempt(slot, 0.0, Reaction.DELIVERED)

    assert one.scheduler.take(1.0) == []
    assert "max-smtp-data-volume-rate of v1 1000/1m is used up" in one.scheduler.explain(B, 1.0)
    (other,) = one.scheduler.take(60.0)
    assert one.scheduler.draw(other, 60.0) == [ref(8)]


def test_what_waits_for_another_queues_transfer_is_woken_by_its_end() -> None:
    one = desk(vmta={"max_smtp_data_volume_rate": Rate(1000, 60.0)})
    one.admit(A, 9)
    slot = one.connect()
    one.scheduler.draw(slot, 0.0)
    one.admit(B, 8)
    assert one.scheduler.take(1.0) == []

    one.scheduler.settle(slot, 2.0, ref(9), Reaction.FAILED)

    assert [found.key for found in one.scheduler.take(2.0)] == [B]
