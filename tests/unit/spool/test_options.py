from __future__ import annotations

from mta.config.load import load_text
from mta.spool.options import SpoolOptions


def options(text: str) -> SpoolOptions:
    snapshot = load_text(text).readable
    return SpoolOptions.from_settings(snapshot.top, snapshot.spools[0].settings)


def test_defaults_keep_young_mail_in_memory_and_leave_the_disk_to_us() -> None:
    found = options("spool /var/spool/mta\n")

    assert found.memory_pool > 0
    assert found.min_free_space == 0
    assert not found.delete_files
    assert not found.deliver_only


def test_directives_are_obeyed() -> None:
    found = options(
        "memory-pool-buffer-size 10M\n"
        "<spool /var/spool/mta>\n  min-free-space 500M\n"
        "  delete-file-holders yes\n  deliver-only yes\n</spool>\n"
    )

    assert found.memory_pool == 10 << 20
    assert found.min_free_space == 500 << 20
    assert found.delete_files
    assert found.deliver_only
