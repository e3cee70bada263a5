"""The scheduler under all limits at once, against a log that is counted by brute force.

`make steps` walks 100,000 steps (STEPS=) from a seed that it prints (SEED=); the default suite walks a few.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mta.config.networks import parse_network
from mta.config.units import Rate
from mta.config.values import NetworkLimit
from mta.queue.key import QueueKey
from mta.queue.policy import UNLIMITED, QueuePolicy, VmtaPolicy
from mta.queue.queue import QueueMode
from mta.queue.reaction import Measure, MeasureKind, Reaction
from mta.queue.slot import Slot
from tests.support.scheduler_model import DOMAINS, KEYS, SOURCES, VMTAS, HostCaps, SchedulerModel

STEPS_OF_A_WALK = 50
EVERYBODY = parse_network("0/0")
ONE = parse_network("192.0.2.1")

PERIODS = (1.0, 10.0, 60.0, 1200.0)
rates = st.none() | st.builds(Rate, st.integers(1, 5), st.sampled_from(PERIODS))
volumes = st.none() | st.builds(Rate, st.integers(1, 3000), st.sampled_from(PERIODS))


def by_address(limits: st.SearchStrategy[Rate | None]) -> st.SearchStrategy[tuple[NetworkLimit, ...]]:
    """Nothing, one limit for every address, or another one for the first address."""
    return st.just(()) | st.tuples(limits, limits).map(
        lambda pair: tuple(
            NetworkLimit(network, rate)
            for network, rate in zip((EVERYBODY, ONE), pair, strict=True)
            if rate is not None
        )
    )


queue_policies = st.builds(
    QueuePolicy,
    max_smtp_out=st.integers(1, 4),
    max_msg_rate=rates,
    max_connect_rate=rates,
    max_data_volume_rate=volumes,
    max_rcpt_per_message=st.integers(1, 3),
    max_msg_per_connection=st.integers(0, 3),
    max_errors_per_connection=st.integers(0, 2),
    smtp_out_rampup_interval=st.sampled_from([0.0, 0.0, 5.0]),
    queue_priority=st.sampled_from([50, 50, 10, 90]),
    allow_priority_interruption=st.booleans(),
    allow_priority_interruption_during_transfer=st.booleans(),
    retry_after=st.sampled_from([(10.0,), (5.0, 60.0)]),
    retry_recipients_after=st.sampled_from([1.0, 20.0, 600.0]),
    retry_upon_new_mail=st.booleans(),
    bounce_after=st.sampled_from([30.0, 1000.0, 100_000.0]),
    max_retries=st.sampled_from([0, 0, 1, 3]),
    backoff_max_smtp_out=st.integers(1, 2),
    backoff_max_msg_rate=rates,
    backoff_max_connect_rate=rates,
    backoff_max_data_volume_rate=volumes,
    backoff_to_normal_after=st.none() | st.just(30.0),
    backoff_to_normal_after_delivery=st.booleans(),
    backoff_upon_all_sources_disabled=st.booleans(),
    source_ip_max_smtp_out=st.just(()) | st.just((NetworkLimit(EVERYBODY, 1),)),
    source_ip_max_msg_rate=by_address(rates),
    source_ip_max_connect_rate=by_address(rates),
    source_ip_max_data_volume_rate=by_address(volumes),
)
vmta_policies = st.builds(
    VmtaPolicy,
    sources=st.sampled_from([SOURCES, SOURCES[:1]]),
    max_smtp_out=st.sampled_from([1, 3, UNLIMITED]),
    max_smtp_msg_rate=rates,
    max_smtp_data_volume_rate=volumes,
)
caps = st.none() | st.integers(1, 3)
host_caps = st.builds(HostCaps, big=caps, first=caps, network=caps)
#: Whether what ends everything under way happens after all.
luck = st.integers(0, 4).map(lambda number: number == 4)
places = st.integers(0, 1 << 16)
patterns = st.sampled_from(["*/*", "d1.example/*", "*/v1", "d0.example/v2"])


class AllLimits(RuleBasedStateMachine):
    """Everything that worker, rules, operator, lender and time may do, in any order."""

    @initialize(
        policies=st.tuples(*[queue_policies] * len(DOMAINS)),
        vmtas=st.tuples(*[vmta_policies] * len(VMTAS)),
        total=st.integers(1, 6),
        is_leased=st.booleans(),
        caps=host_caps,
        most_in_memory=st.sampled_from([0, 1, 10]),
    )
    def start(
        self,
        policies: tuple[QueuePolicy, ...],
        vmtas: tuple[VmtaPolicy, ...],
        total: int,
        is_leased: bool,
        caps: HostCaps,
        most_in_memory: int,
    ) -> None:
        self.model = SchedulerModel(
            dict(zip(DOMAINS, policies, strict=True)),
            dict(zip(VMTAS, vmtas, strict=True)),
            total,
            is_leased=is_leased,
            caps=caps,
            most_in_memory=most_in_memory,
        )
        self.model.follow()
        self.model.lend(total, dict.fromkeys(VMTAS, 2))

    def slot(self, place: int) -> Slot:
        return self.model.slots[place % len(self.model.slots)]

    # -- the worker -----------------------------------------------------------------------------------

    @rule(
        key=st.sampled_from(KEYS),
        messages=st.sampled_from([1, 1, 5, 30]),
        recipients=st.integers(1, 4),
        due=st.sampled_from([None, None, None, 3.0, 700.0]),
        priority=st.sampled_from([50, 50, 50, 90, 10]),
    )
    def admit(self, key, messages, recipients, due, priority) -> None:  # type: ignore[no-untyped-def]
        self.model.admit(key, messages, recipients, due, priority)

    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        self.model.take(limit)

    @rule()
    def dispatch(self) -> None:
        self.model.expire()
        self.model.recall()
        self.model.take()

    @precondition(lambda self: self.model.slots)
    @rule(place=places)
    def draw(self, place: int) -> None:
        self.model.draw(self.slot(place))

    @precondition(lambda self: self.model.slots)
    @rule(place=places, reactions=st.lists(st.sampled_from(list(Reaction)), min_size=1, max_size=6))
    def work(self, place: int, reactions: list[Reaction]) -> None:
        slot = self.slot(place)
        for reaction in reactions:
            self.model.draw(slot)
            for ref in list(slot.in_flight):
                self.model.settle(ref, reaction)

    @precondition(lambda self: self.model.slots)
    @rule(messages=st.integers(1, 60))
    def deliver(self, messages: int) -> None:
        for slot in list(self.model.slots):
            for _ in range(messages):
                for ref in list(slot.in_flight):
                    self.model.settle(ref, Reaction.DELIVERED)
                if slot.state.value == "idle" or not self.model.draw(slot):
                    break

    @rule(moments=st.integers(1, 20), pause=st.sampled_from([0.01, 0.5, 7.0]), messages=st.integers(1, 9))
    def go_on(self, moments: int, pause: float, messages: int) -> None:
        """Some time in the life of a worker with willing receivers."""
        for _ in range(moments):
            self.dispatch()
            self.deliver(messages)
            self.model.now += pause

    @precondition(lambda self: self.model.in_flight)
    @rule(place=places, reaction=st.sampled_from(list(Reaction)))
    def settle(self, place: int, reaction: Reaction) -> None:
        flying = sorted(self.model.in_flight)
        self.model.settle(flying[place % len(flying)], reaction)

    @precondition(lambda self: self.model.slots)
    @rule(place=places)
    def put_back(self, place: int) -> None:
        self.model.put_back(self.slot(place))

    @precondition(lambda self: self.model.slots)
    @rule(place=places, is_failed=st.booleans())
    def close(self, place: int, is_failed: bool) -> None:
        self.model.close(self.slot(place), is_failed=is_failed)

    @rule(wait=st.sampled_from([0.01, 0.05, 1.0, 10.0, 60.0, 700.0, 5000.0]))
    def wait(self, wait: float) -> None:
        self.model.now += wait

    # -- everybody else -------------------------------------------------------------------------------

    @rule(pattern=patterns, what=st.sampled_from(["pause", "resume", "resume", "delete"]))
    def operate(self, pattern: str, what: str) -> None:
        getattr(self.model, what)(pattern)

    @rule(pattern=patterns, with_deferred=st.booleans())
    def schedule(self, pattern: str, with_deferred: bool) -> None:
        self.model.scheduler.schedule_now(pattern, self.model.now, with_deferred=with_deferred)

    @rule(key=st.sampled_from(KEYS), priority=st.sampled_from([0, 50, 100]), part=st.sampled_from([1, 2, 7]))
    def prioritize(self, key: QueueKey, priority: int, part: int) -> None:
        self.model.prioritize(key, priority, part=part)

    @rule(pattern=patterns, mode=st.sampled_from(list(QueueMode)))
    def set_mode(self, pattern: str, mode: QueueMode) -> None:
        self.model.scheduler.set_mode(pattern, mode, self.model.now)

    @rule(key=st.sampled_from(KEYS), source=st.sampled_from(SOURCES), lasting=st.sampled_from([0.0, 20.0]))
    def disable_source(self, key, source, lasting) -> None:  # type: ignore[no-untyped-def]
        if lasting:
            self.model.disable_source(key, source.ip, lasting)
        else:
            self.model.enable_source(key, source.ip)

    @precondition(lambda self: self.model.slots)
    @rule(place=places, kind=st.sampled_from(list(MeasureKind)))
    def apply(self, place: int, kind: MeasureKind) -> None:
        self.model.apply(self.slot(place), Measure(kind, 20.0))

    @rule(
        domain=st.sampled_from(DOMAINS),
        policy=queue_policies,
        vmta=st.sampled_from(VMTAS),
        vmta_policy=vmta_policies,
        caps=host_caps,
        luck=luck,
    )
    def reconfigure(self, domain, policy, vmta, vmta_policy, caps, luck) -> None:  # type: ignore[no-untyped-def]
        if luck:
            self.model.reconfigure(domain, policy, vmta, vmta_policy, caps)
            self.model.follow()

    @rule(caps=host_caps)
    def recap(self, caps: HostCaps) -> None:
        self.model.recap(caps)

    @rule(total=st.integers(0, 6), first=st.integers(0, 3), second=st.integers(0, 3))
    def lend(self, total: int, first: int, second: int) -> None:
        self.model.lend(total, {"v1": first, "v2": second})
        self.model.lend_places(total % 2)

    @rule(luck=luck)
    def restart(self, luck: bool) -> None:
        if luck:
            self.model.restart()

    # -- what always holds ----------------------------------------------------------------------------

    @rule()
    def nothing_is_to_be_had_before_the_deadline(self) -> None:
        self.model.settle_down()

    @rule()
    def every_queue_can_be_explained(self) -> None:
        for row in self.model.scheduler.queues(self.model.now):
            assert row.explanation.endswith(".")

    @invariant()
    def everybody_is_in_one_place(self) -> None:
        self.model.check()

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.drain()


def walk(steps: int, start: int, *phases: Phase) -> None:
    """So many steps from a seed, which is printed so that a failure can be walked again."""
    print(f"seed {start}, {steps} steps")
    run_state_machine_as_test(
        seed(start)(type("AllLimits", (AllLimits,), {})),
        settings=settings(
            max_examples=max(1, steps // STEPS_OF_A_WALK),
            stateful_step_count=STEPS_OF_A_WALK,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_limit_is_exceeded_and_nobody_is_lost_or_starves() -> None:
    walk(400, int.from_bytes(os.urandom(4), "big"), Phase.generate)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_limit_is_exceeded_in_100_000_steps() -> None:
    start = int(os.environ.get("SEED") or 0) or int.from_bytes(os.urandom(4), "big")
    walk(int(os.environ.get("STEPS") or 100_000), start, Phase.generate, Phase.shrink)
