"""Tables, times, JSON."""

from __future__ import annotations

import json

import pytest

from mta.cli.output import Column, Output, ago, bytes_in_words, counted, in_future


def test_plain_tables_have_two_header_and_two_footer_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(
        (Column("name"), Column("#rcpt", is_number=True)), [("v1", 5), ("v22", 123)], footer="2 shown."
    )

    assert capsys.readouterr().out.splitlines() == [
        "name  #rcpt",
        "----  -----",
        "v1        5",
        "v22     123",
        "----  -----",
        "2 shown.",
    ]


def test_an_empty_table_still_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table((Column("name"),), [])

    assert capsys.readouterr().out == "name\n----\n"


def test_json_is_one_object_in_powermtas_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).json({"a": "é"})

    assert json.loads(capsys.readouterr().out) == {"data": {"a": "é"}, "status": "success", "message": ""}


def test_sentences_are_for_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).say("hello")

    assert capsys.readouterr().out == ""


def test_lengths_of_time_are_days_and_a_clock() -> None:
    assert ago(3 * 86400 + 4 * 3600 + 5 * 60 + 6) == "3 04:05:06"


@pytest.mark.parametrize(
    ("epoch", "text"),
    [(0, "-"), (99, "now"), (100, "now"), (130, "in 30s"), (352, "in 4m12s"), (100 + 90061, "in 1d1h")],
)
def test_times_to_come_are_said_in_two_units(epoch: float, text: str) -> None:
    assert in_future(epoch, 100.0) == text


def test_one_is_not_many() -> None:
    assert (counted(1, "queue"), counted(0, "queue")) == ("1 queue", "0 queues")


@pytest.mark.parametrize(
    ("size", "text"), [(512, "512"), (1536, "1.5K"), (5 << 30, "5.0G"), (3 << 50, "3072.0T")]
)
def test_sizes_are_told_roughly(size: int, text: str) -> None:
    assert bytes_in_words(size) == text
