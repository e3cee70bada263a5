"""Answers of several workers become one: sums, rows and limits."""

from __future__ import annotations

from typing import Any

from mta.service import merging


def queue(name: str, rcp: int) -> dict[str, Any]:
    return {"name": name, "rcp": rcp, "kb": rcp * 2}


def test_status_is_added_but_limits_are_not() -> None:
    one = {
        "conn": {"smtpOut": {"cur": 2, "top": 3, "max": 100}},
        "spool": {"dirs": [{"path": "/s/0"}], "totalRcp": 5, "initPct": 100},
        "recovering": False,
        "duplicateWindowP99": 0.03,
    }
    other = {
        "conn": {"smtpOut": {"cur": 1, "top": 4, "max": 100}},
        "spool": {"dirs": [{"path": "/s/1"}], "totalRcp": 7, "initPct": 0},
        "recovering": True,
        "duplicateWindowP99": 0.05,
    }

    assert merging.add([one, other]) == {
        "conn": {"smtpOut": {"cur": 3, "top": 7, "max": 100}},
        "spool": {"dirs": [{"path": "/s/0"}, {"path": "/s/1"}], "totalRcp": 12, "initPct": 0},
        "recovering": True,
        "duplicateWindowP99": 0.05,
    }


def test_one_answer_stays_as_it_is() -> None:
    assert merging.add([{"queues": 3}]) == {"queues": 3}


def test_queues_are_sorted_together_and_cut_to_the_number_asked_for() -> None:
    one = {"queue": [queue("b/v", 9), queue("a/v", 1)], "totalRcp": 10, "totalQueues": 2}
    other = {"queue": [queue("c/v", 5)], "totalRcp": 5, "totalQueues": 1}

    merged = merging.merge_queues([one, other], maxitems=2)

    assert [row["name"] for row in merged["queue"]] == ["b/v", "c/v"]
    assert (merged["totalRcp"], merged["totalQueues"]) == (15, 3)
    by_name = merging.merge_queues([one, other], maxitems=0, sort="name")
    assert [row["name"] for row in by_name["queue"]] == ["a/v", "b/v", "c/v"]


def test_virtual_mtas_of_all_workers_are_the_same_ones() -> None:
    row = {"name": "v1", "dom": 1, "rcp": 2, "kb": 3, "conn": 4, "sources": ["192.0.2.1"]}

    merged = merging.merge_vmtas([{"vmta": [row], "totalRcp": 2}, {"vmta": [row], "totalRcp": 2}])

    assert merged == {"vmta": [{**row, "dom": 2, "rcp": 4, "kb": 6, "conn": 8}], "totalRcp": 4}


def test_a_list_has_the_oldest_first() -> None:
    one = {"rcpt": [{"timeQueued": 3.0}], "total": 4}
    other = {"rcpt": [{"timeQueued": 1.0}, {"timeQueued": 5.0}], "total": 2}

    merged = merging.merge_list([one, other], maxitems=2)

    assert [row["timeQueued"] for row in merged["rcpt"]] == [1.0, 3.0]
    assert merged["total"] == 6


def test_a_queue_at_several_workers_is_one_row_and_the_busiest_says_why() -> None:
    def rollup(rcp: int, reason: str) -> dict[str, Any]:
        return {**queue("g.rollup/v1", rcp), "conn": 1, "reason": reason, "event": [reason]}

    answers = [
        {"queue": [rollup(3, "few")], "totalRcp": 3, "totalQueues": 1, "totalQueuesWithRcp": 1},
        {
            "queue": [rollup(5, "many"), queue("a/v1", 1)],
            "totalRcp": 6,
            "totalQueues": 2,
            "totalQueuesWithRcp": 2,
        },
        {"queue": [rollup(0, "none")], "totalRcp": 0, "totalQueues": 1, "totalQueuesWithRcp": 0},
    ]
    merged = merging.merge_queues(answers)

    assert [(row["name"], row["rcp"]) for row in merged["queue"]] == [("g.rollup/v1", 8), ("a/v1", 1)]
    assert (merged["queue"][0]["conn"], merged["queue"][0]["reason"]) == (3, "many")
    assert (merged["totalRcp"], merged["totalQueues"], merged["totalQueuesWithRcp"]) == (9, 2, 2)
