"""`python -m offbook`: the command `offbook`, for an interpreter whose scripts are not on the path."""

from offbook.ops.cli import main

main()
