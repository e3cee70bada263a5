from __future__ import annotations

from dataclasses import replace

from mta.queue.key import RECIPIENT_BITS, QueueKey
from mta.queue.policy import QueuePolicy
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.scheduler import Scheduler
from tests.support.scheduling import Desk, ref

V1, V2, V3 = (QueueKey("a.example", name) for name in ("v1", "v2", "v3"))


class Rerouted(Desk):
    """v1 hands over to v2, and v2 to whoever is given."""

    def __init__(self, *onwards: str, first: tuple[str, ...] = ("v2",)) -> None:
        super().__init__(retry_recipients_after=100.0, max_smtp_out=1)
        plain = self.policy
        policies = {
            "v1": replace(plain, backoff_reroute_to=first),
            "v2": replace(plain, backoff_reroute_to=onwards),
        }
        self.scheduler = Scheduler(
            policies=lambda key: policies.get(key.vmta, plain),
            vmtas=lambda name: self.vmta,
            total_max_smtp_out=100,
        )

    def refs(self, key: QueueKey) -> list[int]:
        return [entry.ref for entry in self.scheduler.entries(key)]

    def backoff(self, pattern: str, at: float = 1.0) -> None:
        self.scheduler.set_mode(pattern, QueueMode.BACKOFF, at)


def test_what_waits_moves_with_its_times_and_attempts_and_what_comes_follows() -> None:
    desk = Rerouted()
    desk.admit(V1, 1, 2)
    desk.scheduler.admit(V1, ref(3), 0.0, received=0.0, attempts=4, due=50.0)

    desk.backoff("*/v1")
    desk.admit(V1, 4, at=2.0)

    assert desk.refs(V1) == []
    assert desk.refs(V2) == [ref(1), ref(2), ref(4), ref(3)]
    moved = desk.scheduler.entries(V2)[-1]
    assert (moved.attempts, moved.due) == (4, 50)
    assert [slot.key for slot in desk.scheduler.take(2.0)] == [V2]


def test_what_comes_together_takes_turns_among_several_virtual_mtas() -> None:
    desk = Rerouted(first=("v3", "v4"))
    desk.admit(V1, 1)
    desk.backoff("*/v1")

    desk.scheduler.admit_fresh(V1, {ref(message): 2 for message in range(2, 9)}, 2.0)

    assert [len(desk.refs(QueueKey("a.example", name))) for name in ("v3", "v4")] == [4, 4]


def test_what_is_in_flight_follows_when_it_comes_back() -> None:
    desk = Rerouted()
    desk.admit(V1, 1, 2)
    slot = desk.connect()
    first = desk.scheduler.draw(slot, 0.0)
    desk.scheduler.apply(slot, 1.0, Measure(MeasureKind.BACKOFF), "421 no")

    desk.scheduler.settle(slot, 1.0, first[0], Reaction.RETRY_QUEUE)
    desk.scheduler.release(slot, 1.0)
    desk.scheduler.take(1.0)

    assert sorted(ref >> RECIPIENT_BITS for ref in desk.refs(V2)) == [1, 2]


def test_mail_stays_where_it_moved_and_new_mail_comes_back_with_the_normal_mode() -> None:
    desk = Rerouted()
    desk.admit(V1, 1)
    desk.backoff("*/v1")
    desk.scheduler.set_mode("*/v1", QueueMode.NORMAL, 5.0)
    desk.admit(V1, 2, at=6.0)

    assert (desk.refs(V1), desk.refs(V2)) == ([ref(2)], [ref(1)])


def test_a_chain_leads_to_its_end() -> None:
    desk = Rerouted("v3")
    desk.admit(V1, 1)
    desk.admit(V2, 2)
    desk.backoff("*/*")

    assert desk.refs(V3) == [ref(2), ref(1)] or desk.refs(V3) == [ref(1), ref(2)]


def test_a_circle_is_no_way_out() -> None:
    desk = Rerouted("v1")
    desk.admit(V1, 1)
    desk.admit(V2, 2)
    desk.backoff("*/v2")
    desk.backoff("*/v1")
    desk.admit(V1, 3, at=2.0)

    assert sorted(desk.refs(V1) + desk.refs(V2)) == [ref(1), ref(2), ref(3)]
    assert desk.scheduler.take(3.0)


def test_the_members_of_a_pool_take_turns() -> None:
    desk = Rerouted(first=("v2", "v3"))
    desk.admit(V1, 1)
    desk.backoff("*/v1")
    for message in range(2, 6):
        desk.admit(V1, message, at=2.0)

    assert {len(desk.refs(V2)), len(desk.refs(V3))} == {2, 3}


def test_a_queue_without_a_place_to_go_keeps_its_mail() -> None:
    assert QueuePolicy().backoff_reroute_to == ()
    desk = Rerouted(first=())
    desk.admit(V1, 1)
    desk.backoff("*/*")

    assert desk.refs(V1) == [ref(1)]


def always(**targets: tuple[str, ...]) -> Rerouted:
    """Virtual MTAs whose mail goes through others whatever their mode."""
    desk = Rerouted()
    plain = desk.policy
    policies = {name: replace(plain, reroute_to=names) for name, names in targets.items()}
    desk.scheduler = Scheduler(
        policies=lambda key: policies.get(key.vmta, plain),
        vmtas=lambda name: desk.vmta,
        total_max_smtp_out=100,
    )
    return desk


def test_mail_always_goes_where_the_settings_send_it_over_several_steps() -> None:
    desk = always(v1=("v2",), v2=("v3",))
    desk.admit(V1, 1)

    assert (desk.refs(V1), desk.refs(V2), desk.refs(V3)) == ([], [], [ref(1)])


def test_a_virtual_mta_that_is_sent_to_itself_keeps_its_mail_and_takes_that_of_others() -> None:
    desk = always(v1=("v3",), v3=("v3",))
    desk.admit(V3, 1)
    desk.admit(V1, 2)

    assert desk.refs(V3) == [ref(1), ref(2)]


def test_virtual_mtas_that_send_to_each_other_keep_what_they_have() -> None:
    desk = always(v1=("v2",), v2=("v1",))
    desk.admit(V1, 1)
    desk.admit(V2, 2)

    assert (desk.refs(V1), desk.refs(V2)) == ([ref(1)], [ref(2)])
