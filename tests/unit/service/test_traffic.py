from __future__ import annotations

from mta.service.traffic import Flow, Traffic, Volume

START = 1_000_000_000.0  # a multiple of 60 s falls 40 s later


def test_the_last_minute_forgets_what_is_older() -> None:
    flow = Flow()
    flow.add(START, 2, 1, 1000)
    flow.add(START + 30, 1, 1, 500)

    assert flow.last_minute(START + 59) == Volume(3, 2, 1500)
    assert flow.last_minute(START + 60) == Volume(1, 1, 500)
    assert flow.last_minute(START + 500) == Volume()
    assert flow.total == Volume(3, 2, 1500)


def test_the_best_minute_is_remembered_after_it_has_gone() -> None:
    flow = Flow()
    flow.add(START, 5, 5, 50)
    flow.add(START + 3600, 1, 1, 10)

    assert flow.top_minute(START + 3600) == Volume(5, 5, 50)
    assert flow.last_minute(START + 3600) == Volume(1, 1, 10)


def test_the_last_hour_is_kept_in_minutes() -> None:
    flow = Flow()
    for minute in range(90):
        flow.add(START + 60 * minute, 1, 1, 0)

    assert flow.last_hour(START + 60 * 89).recipients == 60
    assert flow.top_hour(START + 60 * 89).recipients == 60


def test_a_long_silence_empties_everything_but_totals() -> None:
    flow = Flow()
    flow.add(START, 1, 1, 0)

    assert flow.last_hour(START + 1e6) == Volume()
    assert flow.total == Volume(1, 1, 0)


def test_reset_forgets_totals_and_bests() -> None:
    traffic = Traffic()
    traffic.into.add(START, 1, 1, 2048)
    assert traffic.shown(START)["total"]["in"] == {"rcp": 1, "msg": 1, "kb": 2}

    traffic.reset()

    assert traffic.shown(START)["total"]["in"] == {"rcp": 0, "msg": 0, "kb": 0}
    assert traffic.shown(START)["topPerMin"]["in"]["rcp"] == 0


def test_what_is_asked_for_within_a_second_counts_once() -> None:
    flow = Flow()
    for step in range(10):
        flow.add(START + step / 4, 1, 1, 10)
        assert flow.total == Volume(step + 1, step + 1, 10 * (step + 1))
        assert flow.last_minute(START + step / 4) == flow.last_hour(START + step / 4) == flow.total
