"""Chaos at full size: a killer, a proxy, a ledger, a checker, and the plays that they disturb.

Not in the wheel. `python -m offbook.ops.chaos --help` says what there is.
"""
