"""Micro benchmarks: nanoseconds of one call, in one process, without sockets.

    python -m benchmarks.micro                 all of them
    python -m benchmarks.micro dkim spool      those whose name contains one of the words
    python -m benchmarks.micro --json out.json

To add one, write a function named `bench_…` in a file named `bench_….py` in this folder. It prepares what it
needs and returns the call to be measured; its docstring's first line is what the table prints:

    def bench_reply_parser() -> Callable[[], object]:
        \"\"\"one three-line reply\"\"\"
        parser = ReplyParser()
        return lambda: parser.feed(REPLY)

A call that does many operations returns `Work(call, operations=1000)`; the table shows one operation. What
has to be cleaned up afterwards is written as a generator that yields the call once. The figures are for
comparing two versions on one machine, never for judging a machine.
"""
