"""`ddbench` and `python -m ddbench`: the command line."""

import sys

from ddbench.benchmark.cli import main  # pyright: ignore[reportMissingImports]  # mapped at installation

if __name__ == "__main__":
    sys.exit(main())
