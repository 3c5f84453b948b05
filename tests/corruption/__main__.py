"""Mutates stored histories: `make corrupt ARGS="--count 100000 --seed 0"`."""

import argparse
import sys
import time

from corruption.shelf import filled
from corruption.trial import mutate


def main() -> int:
    """Mutate and print what became of it."""
    parser = argparse.ArgumentParser(prog="make corrupt ARGS=…", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    tally = mutate(filled(), asked.count, asked.seed)
    sys.stdout.write(f"{tally}\nseed {asked.seed}, {time.monotonic() - began:.1f} s\n")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
