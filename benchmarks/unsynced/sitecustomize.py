"""For one measurement only: with this folder in PYTHONPATH nothing that Python starts waits for the disk.

The server has no switch for that on purpose. It shows what durability costs (`synced` against `not synced`).
"""

import os


def nothing(descriptor: object) -> None:
    """Instead of fsync and fdatasync."""


vars(os).pop("eventfd", None)  # nor does the kernel sync for us: it has no way to say that it has
os.fsync = nothing  # type: ignore[assignment]
os.fdatasync = nothing  # type: ignore[assignment]
