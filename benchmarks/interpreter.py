"""How the Python that runs us was built: between two builds of one version lies as much as between versions.

An interpreter compiled with profile-guided optimization (PGO) takes about a tenth less processor time a
message than one compiled without. Distributions compile theirs with it; version managers leave it out
unless they are told otherwise.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path, PurePath

__all__ = ["described", "python_build"]

#: The flags that the build itself would use, if asked for PGO; they are there in every build.
_RECIPES = frozenset({"PGO_PROF_USE_FLAG", "PGO_PROF_GEN_FLAG"})
_GUIDED = "--enable-optimizations", "-fprofile-use", "-fprofile-instr-use"
_MANAGERS = {".pyenv": "pyenv", ".asdf": "asdf", "mise": "mise", "uv": "uv", "conda": "conda"}


def python_build() -> str:
    """In a few words, as far as it can be told; names no directories."""
    variables = {
        name: value for name, value in sysconfig.get_config_vars().items() if isinstance(value, str | int)
    }
    maps = Path("/proc/self/maps")
    loaded = maps.read_text(errors="replace") if maps.exists() else ""
    return described(PurePath(sys.base_prefix), variables, is_shared="/libpython3" in loaded)


def described(prefix: PurePath, variables: dict[str, str | int], *, is_shared: bool) -> str:
    """The same for an interpreter at `prefix` with these variables of `sysconfig`.

    `is_shared`: the interpreter lies in a library of its own, not in the program. That can't be told from
    the variables: Debian compiles both kinds and keeps the variables of the shared one.
    """
    flags = " ".join(str(value) for name, value in variables.items() if name not in _RECIPES)
    is_guided = any(flag in flags for flag in _GUIDED)
    is_distributed = prefix == PurePath("/usr")
    words = [_source(prefix)]
    if is_guided:
        words.append("PGO")
    elif is_distributed:
        words.append("PGO not told")  # they do it around the build, and it leaves no trace
    else:
        words.append("no PGO")
    if "--with-lto" in flags or "-flto" in flags:
        words.append("LTO")
    words.append("libpython shared" if is_shared else "libpython inside")
    words += [
        word
        for name, word in (("Py_GIL_DISABLED", "without GIL"), ("Py_DEBUG", "debugging"))
        if variables.get(name) == 1
    ]
    return ", ".join(words)


def _source(prefix: PurePath) -> str:
    """Whose build it is, by the place where it lies."""
    if prefix == PurePath("/usr"):
        return "distribution"
    if prefix == PurePath("/usr/local"):
        return "local"
    for part in prefix.parts:
        for name, manager in _MANAGERS.items():
            if part.lower() == name or (name == "conda" and name in part.lower()):
                return manager
    return "other place"
