"""What one worker says about another one that takes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.service.colleagues import Colleague
from mta.service.share import Kind, encode_answer


async def test_a_colleague_that_is_full_is_one_line_in_the_log_however_much_it_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    colleague = Colleague(1, tmp_path / "intake", loop=asyncio.get_running_loop())

    for number in range(1, 100):
        colleague.data_received(encode_answer(Kind.REFUSED, number, "can't be stored now"))

    (line,) = caplog.messages
    assert line == """colleague=1 event=refused shares=1 reason="can't be stored now\""""
