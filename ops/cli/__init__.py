"""The command `offbook`: what the library can do, from a shell.

Exit codes: 0 all is well; 1 the run failed, or a check found something; 2 the command or its
arguments are wrong; 3 there is no such run or hook; 4 the server is unavailable or unfit; 5 the
time is over; 130 interrupted.
"""

from .group import cli, main

__all__ = ["cli", "main"]
