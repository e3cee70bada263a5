"""OpenDKIM's C library as a verifier that shares no code and no author with our signer."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Mapping
from pathlib import Path

__all__ = ["OpenDkim", "find_library"]

# Values of opendkim/dkim.h, library version 11.
SET_OPTION = 1
OPTION_QUERY_METHOD = 6
OPTION_QUERY_INFO = 7
QUERY_FILE = 1
FLAG_PASSED = 0x04
BODY_HASH_MATCHES = 0
STATUS_OK = 0


def find_library() -> str | None:
    """The name to load the library by, None when it is not installed."""
    return ctypes.util.find_library("opendkim")


class OpenDkim:
    """A verifier whose DNS is a dictionary: {"selector._domainkey.domain": "v=DKIM1; ..."}.

    The library reads the records from a file that it finds at `directory`.
    """

    def __init__(self, records: Mapping[str, str], directory: Path) -> None:
        path = directory / "opendkim-keys.txt"
        path.write_text("".join(f"{name} {record}\n" for name, record in records.items()), encoding="ascii")
        library = find_library()
        assert library is not None
        self._c = ctypes.CDLL(library)
        self._c.dkim_init.restype = ctypes.c_void_p
        self._c.dkim_verify.restype = ctypes.c_void_p
        self._c.dkim_sig_geterrorstr.restype = ctypes.c_char_p
        self._handle = ctypes.c_void_p(self._c.dkim_init(None, None))
        method = ctypes.c_int(QUERY_FILE)
        self._set(OPTION_QUERY_METHOD, ctypes.byref(method), ctypes.sizeof(method))
        where = bytes(path)
        self._set(OPTION_QUERY_INFO, ctypes.c_char_p(where), len(where))

    def close(self) -> None:
        self._c.dkim_close(self._handle)

    def verify(self, message: bytes) -> list[str]:
        """One word per DKIM-Signature of the message, from the top: "pass", or the library's reason."""
        status = ctypes.c_int(0)
        context = ctypes.c_void_p(
            self._c.dkim_verify(self._handle, ctypes.c_char_p(b"test"), None, ctypes.byref(status))
        )
        assert status.value == STATUS_OK
        try:
            if self._c.dkim_chunk(context, ctypes.c_char_p(message), ctypes.c_size_t(len(message))):
                return ["the library refused the message"]
            self._c.dkim_chunk(context, None, ctypes.c_size_t(0))
            self._c.dkim_eom(context, None)
            return self._results(context)
        finally:
            self._c.dkim_free(context)

    def _results(self, context: ctypes.c_void_p) -> list[str]:
        count = ctypes.c_int(0)
        signatures = ctypes.POINTER(ctypes.c_void_p)()
        self._c.dkim_getsiglist(context, ctypes.byref(signatures), ctypes.byref(count))
        return [self._result(ctypes.c_void_p(signatures[index])) for index in range(count.value)]

    def _result(self, signature: ctypes.c_void_p) -> str:
        if self._c.dkim_sig_getflags(signature) & FLAG_PASSED:
            return "pass" if self._c.dkim_sig_getbh(signature) == BODY_HASH_MATCHES else "body hash differs"
        reason = self._c.dkim_sig_geterrorstr(self._c.dkim_sig_geterror(signature))
        return reason.decode() if reason else "unknown"

    def _set(self, option: int, data: object, size: int) -> None:
        status = self._c.dkim_options(self._handle, SET_OPTION, option, data, ctypes.c_size_t(size))
        assert status == STATUS_OK, f"option {option}: {status}"
