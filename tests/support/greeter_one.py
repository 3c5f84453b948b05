"""One of two modules whose functions have the same names."""

from offbook import step, workflow


@step
async def word() -> str:
    return "one"


@workflow
async def greet() -> str:
    return f"hello from {await word()}"
