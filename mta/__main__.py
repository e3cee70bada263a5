"""`python -m mta`: the same as the `mta` command."""

import sys

from mta.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
