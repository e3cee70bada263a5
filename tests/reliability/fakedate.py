"""A wall clock that can be set for the processes of one test, as `date -s` would for all.

A small library between the program and the C library adds an offset to the real-time clock, read from a file
that the test writes. The monotonic clock is left alone, as it is when somebody sets the clock.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

__all__ = ["DAY", "HOUR", "YEAR", "FakeDate"]

HOUR, DAY = 3600, 86_400
YEAR = 365 * DAY

_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAKE_DATE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (!result && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where) *where = exact.tv_sec;
    return exact.tv_sec;
}
"""


class FakeDate:
    """`environment` is for the processes; `problem` says why this can't be done here."""

    def __init__(self, directory: Path) -> None:
        self.problem = ""
        self._offset = directory / "date"
        self.set(0)
        library = directory / "fakedate.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            self.problem = "there is no C compiler"
            return
        source = directory / "fakedate.c"
        source.write_text(_SOURCE)
        command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            self.problem = f"the compiler says: {done.stderr.strip()[:200]}"
        self.environment = {"LD_PRELOAD": str(library), "FAKE_DATE": str(self._offset)}

    def set(self, seconds: int) -> None:
        """The clock says so many seconds more than the real one from now on."""
        if not self._offset.exists():
            self._offset.write_bytes(bytes(8))
        with self._offset.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", seconds))
