"""`python -m offbook`: the command `offbook`, for an interpreter without scripts on the path."""

from importlib import import_module

import_module("offbook.ops.cli").main()  # by name: the face knows no command line
