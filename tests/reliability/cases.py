"""The cases of the fault engine; each returns its breaches in words, and raises Impossible where the machine
can't play it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

from tests.reliability.arena import Arena, Load
from tests.reliability.disk import LoopDisk, no_mounting, small_disk
from tests.reliability.fakedate import DAY, HOUR, YEAR, FakeDate
from tests.reliability.ledger import judge
from tests.reliability.tracer import has_strace

__all__ = [
    "Impossible", "broken_reloads", "clock_set", "disk_full", "failing_sync", "inodes_full", "no_descriptors",
    "other_date", "read_only", "rotation_race", "two_instances", "wrong_modes",
]  # fmt: skip

_PATIENCE = 60.0


class Impossible(Exception):
    """This machine can't play the case; the text says why."""


def need(reason: str) -> None:
    """Give up where there is a reason."""
    if reason:
        raise Impossible(reason)


async def verdict(arena: Arena, *loads: Load) -> list[str]:
    """Let the service finish, and judge."""
    for load in loads:
        arena.note_load(load)
    await arena.until_settled(_PATIENCE)
    code = await arena.stop()
    arena.take_records()
    return judge(arena.evidence).breaches() + ([f"ended with {code}"] if code else [])


def without_receipts(breaches: list[str]) -> list[str]:
    """All but missing `r` records: a message that was safe when the disk failed is delivered without one."""
    return [one for one in breaches if "without a record" not in one or ": r " not in one]


async def alarm(arena: Arena) -> str:
    """What `show status` says about a broken spool."""
    status = await arena.ask("show.status")
    return " ".join(str(one["broken"]) for one in status["spool"]["dirs"]).strip()


async def offer(arena: Arena, prefix: str, messages: int = 20) -> Load:
    """A few messages, to see whether they are taken."""
    load = arena.injector(prefix, sessions=2, messages=messages)
    await load.run()
    arena.note_load(load)
    return load


# -- disks ---------------------------------------------------------------------------------------------


async def disk_full(place: Path, is_short: bool) -> list[str]:
    """Somebody fills the spool's disk: 452, delivery goes on, and mail is taken again when there is room."""
    need(no_mounting())
    with small_disk(place / "disk", "size=48m") as disk:
        async with Arena(place, spool=disk / "spool") as arena:
            first = await offer(arena, "a")
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            full = arena.injector("b", sessions=5, messages=30_000, size=40_000)
            await full.run()
            arena.note_load(full)
            breaches = (
                [] if any(code.startswith("452") for code in full.refusals) else [f"no 452: {full.refusals}"]
            )
            await arena.until_empty(_PATIENCE)
            filler.unlink()
            await asyncio.sleep(0.5)
            last = await offer(arena, "c")
            if not first.acknowledged or not last.acknowledged:
                breaches.append("mail is not taken although there is room")
            return breaches + await verdict(arena)


async def inodes_full(place: Path, is_short: bool) -> list[str]:
    """No inode left: what is there is delivered."""
    need(no_mounting())
    with small_disk(place / "disk", "size=96m,nr_inodes=60") as disk:
        async with Arena(place, spool=disk / "spool", extra="") as arena:
            first = await offer(arena, "a")
            for number in range(100):
                try:
                    (disk / f"filler{number}").touch()
                except OSError:
                    break
            await offer(arena, "b", 200)
            for filler in disk.glob("filler*"):
                filler.unlink()
            return await verdict(arena, first)


async def read_only(place: Path, is_short: bool) -> list[str]:
    """The kernel makes the disk read-only, as it does after an error: nothing is acknowledged from then on,
    status says so, and a restart with the disk mended has all that was promised."""
    need(no_mounting())
    with LoopDisk(place / "disk") as disk:
        async with Arena(place, spool=disk.path / "spool") as arena:
            load = arena.injector("a", sessions=5)
            running = asyncio.create_task(load.run())
            await load.until(200)
            disk.fail()
            await running  # refused in the end
            arena.note_load(load)
            breaches = [] if await alarm(arena) else ["no alarm in show status"]
            during = await offer(arena, "b")
            if during.acknowledged:
                breaches.append(f"{len(during.acknowledged)} acknowledged on a read-only disk")
            arena.kill()
            arena.note_kill("group")
            await arena.wait()
            disk.restore()
            await arena.start()
            return breaches + without_receipts(await verdict(arena))


async def failing_sync(place: Path, is_short: bool) -> list[str]:
    """fdatasync says EIO once: never 250 from then on, an alarm, and a restart has all that was promised."""
    need(has_strace())
    async with Arena(place) as arena:
        first = await offer(arena, "a", 50)
        worker = (await arena.children())["worker-0"]
        command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync"]
        command += ["-e", "inject=fdatasync:error=EIO:when=1", "-p", str(worker)]
        strace = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert strace.stderr is not None
        try:
            async with asyncio.timeout(10):
                while b"attached" not in await strace.stderr.readline():
                    pass
            await offer(arena, "b", 50)
        finally:
            with contextlib.suppress(ProcessLookupError):
                strace.send_signal(signal.SIGINT)
            await strace.wait()
        breaches = [] if await alarm(arena) else ["no alarm in show status"]
        after = await offer(arena, "c")
        if after.acknowledged:
            breaches.append(f"{len(after.acknowledged)} acknowledged after a failed sync")
        arena.kill()
        arena.note_kill("group")
        await arena.wait()
        await arena.start()
        return breaches + without_receipts(await verdict(arena, first))


# -- the machine ---------------------------------------------------------------------------------------


async def no_descriptors(place: Path, is_short: bool) -> list[str]:
    """The worker runs out of descriptors: it neither dies nor spins, and good clients are served again."""
    async with Arena(place) as arena:
        worker = (await arena.children())["worker-0"]
        open_now = len(os.listdir(f"/proc/{worker}/fd"))
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_now + 12, limits[1]))
        load = arena.injector("a", sessions=60, messages=600)
        before = cpu_seconds(worker)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await load.run()
        load.stop()
        arena.note_load(load)
        await asyncio.sleep(1.0)
        breaches = []
        if cpu_seconds(worker) - before > 3.5:
            breaches.append("the worker spins while it has no descriptors")
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
        await asyncio.sleep(1.5)
        again = await offer(arena, "b")
        if len(again.acknowledged) < 20:
            breaches.append("good clients are not served afterwards")
        if (await arena.children())["worker-0"] != worker:
            breaches.append("the worker has died of it")
        return breaches + await verdict(arena)


async def clock_set(place: Path, is_short: bool) -> list[str]:
    """Somebody sets the clock while mail flows: nothing expires, nothing is tried in a storm or never."""
    date = FakeDate(place)
    need(date.problem)
    async with Arena(place, environment=date.environment) as arena:
        load = arena.injector("a", sessions=5)
        running = asyncio.create_task(load.run())
        for jump in (HOUR, -2 * HOUR, DAY, -10 * YEAR, 10 * YEAR, 0):
            date.set(jump)
            await load.until(len(load.acknowledged) + 100)
            await asyncio.sleep(0.2)
        load.stop()
        await running
        return await verdict(arena, load)


async def other_date(place: Path, is_short: bool) -> list[str]:
    """The service starts again a month later, and then ten years earlier: mail that waits is tried first."""
    date = FakeDate(place)
    need(date.problem)
    wait = "4s" if is_short else "10s"
    waits = (
        f"retry-recipients-after {wait}\n    backoff-retry-after {wait}\n    retry-after-dns-error {wait}\n"
    )
    waits += "    bounce-after 1h"
    breaches = []
    for number, jump in enumerate((31 * DAY, -10 * YEAR)):
        home = place / f"{number}"
        home.mkdir()
        date.set(0)
        async with Arena(home, environment=date.environment, within=waits, keeps_records=True) as arena:
            load = arena.injector("a", sessions=2, messages=50)
            await load.run()
            while any(name.endswith("@example.com") for name in load.acknowledged - arena.received.keys()):
                await asyncio.sleep(0.05)
            arena.note_load(load)
            await asyncio.sleep(0.5)
            await arena.stop()
            date.set(jump)
            arena.write_config()
            await arena.start()
            breaches += [f"{jump // DAY} days: {one}" for one in await verdict(arena)]
    return breaches


# -- people --------------------------------------------------------------------------------------------


async def rotation_race(place: Path, is_short: bool) -> list[str]:
    """Commands, signals and other people's mv at the accounting files, all at once: no record is lost."""
    async with Arena(place) as arena:
        load = arena.injector("a", sessions=5)
        running = asyncio.create_task(load.run())
        for number in range(15 if is_short else 60):
            await asyncio.sleep(0.03)
            match number % 3:
                case 0:
                    await arena.ask("rotate", what="acct")
                case 1:
                    os.kill(arena.pid, signal.SIGUSR1)
                case 2:
                    newest = max(
                        place.glob("acct-*.csv"), key=lambda path: path.stat().st_mtime, default=None
                    )
                    if newest is not None:
                        newest.rename(place / f"acct-moved{number}.csv")
        load.stop()
        await running
        return await verdict(arena, load)


async def broken_reloads(place: Path, is_short: bool) -> list[str]:
    """Configurations that no service should follow: each is refused with a line, and mail flows on."""
    async with Arena(place) as arena:
        sound = arena.config.read_text()
        spoilt = (
            lambda text, number: text[: len(text) * number // 211] + "\n<cut off",
            lambda text, number: text + f"no-such-directive-{number} yes\n",
            lambda text, number: text + f"smtp-listener 127.0.0.1:{number + 99_999}\n",
            lambda text, number: text.replace("</domain>", "", 1),
            lambda text, number: text + "<domain *>\nmax-smtp-out many\n</domain>\n",
            lambda text, number: text + "\x00\xff" * number,
        )
        load = arena.injector("a", sessions=3)
        running = asyncio.create_task(load.run())
        breaches, refused = [], 0
        for number in range(24 if is_short else 200):
            arena.config.write_text(spoilt[number % len(spoilt)](sound, number), errors="surrogateescape")
            try:
                await arena.ask("reload")
            except RuntimeError as error:
                refused += 1
                if not str(error).strip():
                    breaches.append(f"configuration {number} was refused without a word")
        arena.config.write_text(sound)
        await arena.ask("reload")
        load.stop()
        await running
        if not refused:
            breaches.append("no configuration was refused")
        return breaches + await verdict(arena, load)


async def wrong_modes(place: Path, is_short: bool) -> list[str]:
    """A spool that others may write to is refused; one they may read is closed, and so is all that is made,
    whatever the umask."""
    spool = place / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    before = os.umask(0)
    try:
        arena = Arena(place)
        try:
            async with arena:
                return ["started on a spool that everybody may write to"]
        except AssertionError as refused:
            if "chmod" not in str(refused):
                return [f"refused without saying what to do: {refused}"]
        spool.chmod(0o755)
        async with Arena(place) as arena:
            load = await offer(arena, "a")
            open_ones = [
                str(path.relative_to(place))
                for path in (*spool.glob("*"), *place.glob("acct*"))  # what is below them is closed by them
                if path.stat().st_mode & 0o007
            ]
            breaches = [f"open to everybody: {', '.join(open_ones[:5])}"] if open_ones else []
            return breaches + await verdict(arena, load)
    finally:
        os.umask(before)


async def two_instances(place: Path, is_short: bool) -> list[str]:
    """A second service on the same spool ends at once with a reason, and harms nothing."""
    async with Arena(place) as arena:
        load = arena.injector("a", sessions=5)
        running = asyncio.create_task(load.run())
        await load.until(100)
        other = place / "other.conf"
        text = arena.config.read_text().replace(f":{arena.port}", ":0", 1)
        other.write_text(text.replace("control.sock", "other.sock").replace("acct.csv", "other.csv"))
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mta", "run", "-c", str(other),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        breaches = []
        try:
            async with asyncio.timeout(20):
                words, _ = await second.communicate()
            if second.returncode == 0:
                breaches.append("the second instance ended as if all were well")
            elif b"spool" not in words:
                breaches.append(f"the second instance gave no reason: {words[-300:]!r}")
        except TimeoutError:
            breaches.append("the second instance runs on")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(second.pid, signal.SIGKILL)
        load.stop()
        await running
        return breaches + await verdict(arena, load)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
