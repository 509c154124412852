"""`python -m maskgym`: the same command line as `maskgym`."""

import sys

from maskgym.scripts.cli import main

if __name__ == "__main__":
    sys.exit(main())
