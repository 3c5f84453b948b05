"""`python -m offbook`: the command `offbook`, for an interpreter without scripts on the path."""

from offbook.ops.cli import main

main()
