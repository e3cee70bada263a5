"""Reading strace's log: which calls of a scenario are points to fail at."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.enumerator import tasks_of
from tests.reliability.tracer import Point, points

LOG = """\
10 openat(AT_FDCWD, "/usr/lib/python", O_RDONLY|O_CLOEXEC) = 3</usr/lib/python>
10 openat(AT_FDCWD, "/tmp/x/spool/lock", O_RDWR|O_CREAT, 0600) = 4</tmp/x/spool/lock>
10 openat(AT_FDCWD, "/tmp/x/spool", O_RDONLY|O_DIRECTORY) = 5</tmp/x/spool>
10 pwritev2(4</tmp/x/spool/segments/1>, [{iov_base="a", iov_len=1}], 1, 0, 0) = 1
11 pwritev2(4</tmp/x/spool/segments/1>, [{iov_base="b", iov_len=1}], 1, 1, 0 <unfinished ...>
10 write(1</tmp/out>, "a m1", 4)   = 4
11 <... pwritev2 resumed>) = 1
11 fdatasync(4</tmp/x/spool/segments/1>) = 0
10 pwritev2(4</tmp/x/spool/segments/1>, [{iov_base="c", iov_len=1}], 1, 2, 0) = 1
10 +++ exited with 0 +++
"""


def test_points_are_the_changing_calls_below_the_directory_counted_by_thread() -> None:
    assert points(LOG, Path("/tmp/x")) == [
        Point("openat", 2),
        Point("pwritev2", 1),
        Point("fdatasync", 1),
        Point("pwritev2", 2),
    ]


def test_each_point_is_killed_at_and_has_the_errors_that_its_call_can_have() -> None:
    tasks = tasks_of("accept", [Point("fdatasync", 3), Point("pwritev2", 1)])

    assert [task.key for task in tasks] == [
        "accept kill fdatasync:3",
        "accept kill pwritev2:1",
        "accept EIO fdatasync:3",
        "accept EIO pwritev2:1",
        "accept ENOSPC pwritev2:1",
        "accept short pwritev2:1",
    ]
