"""Installs what the tests with npm's clients and with a browser need: `python -m support.outfit`.

With names of programs after it, it sees to those alone. Programs come from the system's packages
where `apt-get` may be used, packages from npm.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from support.npm import FOLDERS, installed, missing

PROGRAMS = {"node": "nodejs", "npm": "npm", "chromium": "chromium"}
"""Programs, and the packages of Debian that bring them."""


def main(programs: Sequence[str]) -> int:
    """Install what is missing; say what still is."""
    wanted = programs or tuple(PROGRAMS)
    absent = missing(*wanted)
    if absent and shutil.which("apt-get") and os.geteuid() == 0:
        _install(absent)
        absent = missing(*wanted)
    if absent:
        listed = ", ".join(absent)
        sys.stderr.write(f"missing: {listed}; the tests that need no browser: make test-core\n")
        return 1
    if programs:
        return 0
    with ThreadPoolExecutor() as pool:
        list(pool.map(installed, FOLDERS))
    return 0


def _install(programs: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    for program in programs:
        if shutil.which(program) is None:  # one package may bring two of them
            command = ["apt-get", "install", "-qq", "--no-install-recommends", PROGRAMS[program]]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
