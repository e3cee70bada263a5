"""What our imports say to whoever starts us: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_library_that_has_to_be_compiled_first_does_not_warn_the_operator(tmp_path: Path) -> None:
    program = "import sys, mta.routing.resolver; sys.pycache_prefix = sys.argv[1]; import mta.routing.spf"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False, timeout=30.0,
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stderr == ""
    assert len(list(tmp_path.rglob("spf.*"))) == 2, "pyspf was not compiled, only our module of its name"
