"""A day with a receiver that throttles: modes, disabled addresses and rates are those that the configuration
promises, minute by minute, and the same when the service is restarted in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

import mta.delivery.session as session
from mta.message.event import Event
from mta.queue.notice import Notice
from mta.sink.script import parse_script
from tests.support.workshop import Workshop

START = 1_800_000_000.0
STEP = 600.0
HOUR = 3600.0

WITHIN = """
    max-smtp-out 1
    max-msg-per-connection 1
    smtp-pattern-list throttled
    max-msg-rate 20/65m
    retry-after 15m
    backoff-retry-after 25m,55m
    backoff-max-msg-rate 2/65m
    backoff-to-normal-after 115m
    backoff-upon-all-sources-disabled yes
    deliver-local-dsn no
"""
EXTRA = """
<smtp-pattern-list throttled>
    reply /4\\.7\\.28/  mode=backoff
    reply /listed/      disable-source-ip, reenable-after=175m
</smtp-pattern-list>
<virtual-mta two>
    smtp-source-host 127.0.0.2 a.example.org
    smtp-source-host 127.0.0.3 b.example.org
</virtual-mta>
<source 127.0.0.1>
    default-virtual-mta two
</source>
"""

#: From which hour on the receiver says what.
RECEIVER = {
    0: "",
    6: "MAIL 421 4.7.28 unusual rate of mail from your address",
    8: "",
    14: "MAIL 550 5.7.1 your address is listed",
    15: "",
}

#: What the configuration promises; everything is looked at every ten minutes. 421 at 6:00 begins backoff for
#: 115 minutes. The next try is due after 25 minutes, but the attempts of the hour before count against
#: backoff-max-msg-rate until 6:55, so it comes at 7:00 and prolongs backoff to 8:55. At 14:00 and 14:10 the
#: addresses are listed, one after the other; without one there is backoff until 16:05. They come back at
#: 16:55 and 17:05.
PROMISED = [
    ("06:00", "backoff"),
    ("09:00", "normal"),
    ("14:00", "source-disabled"),
    ("14:10", "source-disabled"),
    ("14:10", "backoff"),
    ("16:10", "normal"),
    ("17:00", "source-enabled"),
    ("17:10", "source-enabled"),
]


class Day:
    """One day, with restarts at these hours."""

    def __init__(self, directory: Path, restarts: tuple[float, ...] = ()) -> None:
        self.directory = directory
        self.restarts = [*restarts, 24.0]
        self.notices: list[tuple[str, str]] = []
        self.addresses: list[str] = []
        self.delivered: list[str] = []
        self.events: dict[str, Event] = {}

    async def pass_by(self) -> None:
        begin = 0.0
        for end in self.restarts:
            async with Workshop(
                self.directory,
                rules=RECEIVER[max(hour for hour in RECEIVER if hour <= begin)],
                within=WITHIN,
                extra=EXTRA,
                start=START + begin * HOUR - 5.0,
            ) as shop:
                shop.worker.inbound.notices = self.note  # type: ignore[assignment]
                await self.hours(shop, begin, end)
                self.delivered += [to for delivery in shop.deliveries for to in delivery.recipients]
                self.events |= {event.event_id: event for event in shop.events()}
            begin = end

    def note(self, notice: Notice) -> None:
        minutes = int(notice.at - START) // 60
        text = f"{minutes // 60:02}:{minutes % 60:02}"
        self.notices.append((text, notice.kind.value))
        if notice.source_ip:
            self.addresses.append(notice.source_ip)

    async def hours(self, shop: Workshop, begin: float, end: float) -> None:
        for step in range(round(begin * HOUR / STEP), round(end * HOUR / STEP)):
            when = START + step * STEP
            hour = max(hour for hour in RECEIVER if hour * HOUR <= step * STEP)
            shop.options.script = parse_script(RECEIVER[hour])
            shop.clock.move_to(when)
            await shop.submit(prefix=f"step{step}.")
            await shop.turn()
            while any(shop.worker.dispatcher.stats()):
                await shop.turn()


def most_in_an_hour(events: list[Event], begin: float, end: float) -> int:
    """The most deliveries in any hour within these hours of the day."""
    times = [event.time_logged - START for event in events if event.type == "d"]
    times = [time for time in times if begin * HOUR <= time < end * HOUR]
    return max((sum(time <= other < time + HOUR for other in times) for time in times), default=0)


@pytest.mark.parametrize(
    "restarts",
    [
        pytest.param((), id="without a restart", marks=pytest.mark.slow),
        pytest.param((7.0, 14.5, 20.0), id="with restarts"),
    ],
)
async def test_the_log_of_the_day_is_the_promised_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: tuple[float, ...]
) -> None:
    monkeypatch.setattr(session, "LINGER", 0.001)  # a fifth of a second, 144 times
    day = Day(tmp_path, restarts)

    await day.pass_by()

    events = list(day.events.values())
    assert day.notices == PROMISED
    # Which of the two is asked first is chance.
    assert sorted(day.addresses) == ["127.0.0.2"] * 2 + ["127.0.0.3"] * 2
    assert most_in_an_hour(events, 6, 9) <= 2
    assert most_in_an_hour(events, 9, 14) <= 20
    assert len(set(day.delivered)) == len(day.delivered) == 24 * 6 - 2  # a listed address bounces one each
