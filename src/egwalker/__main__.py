"""`python -m egwalker` is the `egwalker` command."""

import sys

from egwalker.cli import main

if __name__ == "__main__":
    sys.exit(main())
