"""`python -m tests.support.history FILE…`: check a history that was kept; exit code 1 where a promise was not kept."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.support.history.checker import check
from tests.support.history.history import History
from tests.support.history.records import HistoryError
from tests.support.history.violations import summary


def main() -> int:
    """Print the violations, and how much was looked at. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.history", description=main.__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="all files of one run")
    parser.add_argument(
        "--merged", type=Path, help="write all of it to this file, whose lines violations name"
    )
    chosen = parser.parse_args()
    began = time.process_time()
    try:
        history = History.read(*chosen.files)
    except (HistoryError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    violations = check(history)
    if chosen.merged is not None:
        history.write(chosen.merged)
    if violations:
        sys.stdout.write(f"{summary(violations, shown=50)}\n")
    seconds = time.process_time() - began
    sys.stdout.write(
        f"{len(history.records):,} records, {len(history.posts):,} posts, {len(violations):,} violations; {seconds:.1f} s of CPU\n"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
