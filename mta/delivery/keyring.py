"""The DKIM keys of a configuration, read from their files once.

`KeyRing.load` runs when a configuration is loaded, so that a key nobody can read is an error then, with file
and line, and never a surprise for mail on its way. A reload reads only the files that changed.
"""

from __future__ import annotations

import stat
from pathlib import Path

from mta.config.patterns import DomainKey
from mta.config.problems import Problem, Problems
from mta.config.snapshot import DEFAULT_VMTA, Snapshot
from mta.errors import ConfigError
from mta.message.domainkey import DkimKey, PrivateKey, parse_private_key

__all__ = ["KeyRing"]

#: A PEM file of a 16384-bit key has 13 KB; what is larger is some other file.
LARGEST_KEY_FILE = 64 * 1024

#: What tells whether a file has changed: time of change in nanoseconds, size, inode.
Version = tuple[int, int, int]


class KeyRing:
    """Keys by virtual MTA in search order; immutable once loaded."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Version, PrivateKey]] = {}
        self._keys: dict[str, tuple[DkimKey, ...]] = {}
        self._listed: dict[str, tuple[DkimKey, ...]] = {}

    @classmethod
    def load(cls, snapshot: Snapshot, previous: KeyRing | None = None) -> KeyRing:
        """Every key of a snapshot, those of unchanged files taken from `previous`.

        Raises ConfigError that names each key file which can't be used, with the line that asks for it.
        """
        ring = cls()
        problems = ring._read(snapshot, previous)
        if problems.has_errors():
            raise ConfigError("\n".join(map(str, problems.in_order(snapshot.files))))
        return ring

    @classmethod
    def problems(cls, snapshot: Snapshot) -> tuple[Problem, ...]:
        """What is wrong with the key files of a snapshot: for checks that want all problems at once."""
        return cls()._read(snapshot, None).in_order(snapshot.files)

    def keys(self, vmta: str) -> tuple[DkimKey, ...]:
        """The keys of a virtual MTA, those of its pool, the global ones, in this order."""
        found = self._keys.get(vmta)
        return self._keys[DEFAULT_VMTA] if found is None else found

    def listed(self, name: str) -> tuple[DkimKey, ...]:
        """The keys of `<domain-key-list NAME>`; () when there is no such list."""
        return self._listed.get(name, ())

    def _read(self, snapshot: Snapshot, previous: KeyRing | None) -> Problems:
        problems = Problems()
        known: dict[DomainKey, DkimKey] = {}
        for vmta in (DEFAULT_VMTA, *snapshot.vmtas):
            lines = snapshot.domain_keys(vmta)
            for line in lines:
                if line not in known:
                    self._read_line(line, known, previous, problems)
            self._keys[vmta] = tuple(known[line] for line in lines if line in known)
        for name, lines in snapshot.key_lists.items():
            for line in lines:
                if line not in known:
                    self._read_line(line, known, previous, problems)
            self._listed[name] = tuple(known[line] for line in lines if line in known)
        return problems

    def _read_line(
        self, line: DomainKey, known: dict[DomainKey, DkimKey], previous: KeyRing | None, problems: Problems
    ) -> None:
        path = line.origin.file.parent / line.path  # an absolute path stays as it is
        try:
            private = self._private_key(path, previous)
            if path.stat().st_mode & stat.S_IROTH:
                problems.warning(
                    line.origin, f"everybody can read the private key {path}", f"chmod 600 {path}"
                )
            known[line] = DkimKey(line.selector, line.domain, private)
        except OSError as error:
            problems.error(line.origin, f"the DKIM key {path} can't be read: {error.strerror}")
        except ConfigError as error:
            problems.error(line.origin, f"the DKIM key {path} can't be used: {error}")

    def _private_key(self, path: Path, previous: KeyRing | None) -> PrivateKey:
        state = path.stat()
        version = (state.st_mtime_ns, state.st_size, state.st_ino)
        for ring in (self, previous):
            old = ring._files.get(path) if ring is not None else None
            if old is not None and old[0] == version:
                self._files[path] = old
                return old[1]
        if state.st_size > LARGEST_KEY_FILE:
            raise ConfigError("too large for a key file")
        private = parse_private_key(path.read_bytes())
        self._files[path] = (version, private)
        return private

    def __repr__(self) -> str:
        return f"<KeyRing files={len(self._files)} vmtas={len(self._keys)}>"
