"""Plays the demo with a kill at each moment that is worth one, and loads the page after each."""

import check
import scripted

VARIABLES = {
    "CODER_SCRIPTED": "1",
    "CODER_WORD_SECONDS": "0.05",
    "CODER_CHECK": "sleep 2; python3 check.py",
}
"""Slow enough that a person could press a button in the middle of all of it."""

_TOOL = "!!document.querySelector('[data-tool={}][data-state={}]')"
MOMENTS = {
    "in the first sentence": f"{check.SAID_NOW}.join('').length > 10",
    "while a file is being written": f"{check.FILES_NOW}.length > 1",
    "while a command runs": _TOOL.format("run_command", "running"),
    "while it mends a file": f"{check.FILES_NOW}.length > 4",
    "in the sleep": _TOOL.format("sleep", "running"),
    "while it waits for an answer": "!!document.querySelector('[data-question=open]')",
    "in the last sentence": f"{check.SAID_NOW}.at(-1)?.startsWith('{scripted.DONE[:8]}') === true",
}
"""What the page shows at each moment, in the order in which they come."""
_QUESTION = "while it waits for an answer"


class Kills(check.Play):
    """One play in a browser's page, with a kill at each moment."""

    async def run(self) -> None:
        """Play it.

        Raises:
            Failed: something is not as it should be.
        """
        await self.page.resize(*check.SIZE)
        await self.page.go(self.here.url)
        await self.page.type("#prompt", "A tea timer, please")
        for name, shown in MOMENTS.items():
            await self.page.until(shown)
            await self._kill(name)
            if name == _QUESTION:
                await self.say_yes_by_the_link()
        await self.use_the_app()
        await self.compare_all()
        self.count_calls(cut=2)

    async def _kill(self, moment: str) -> None:
        await self.page.until(f"{check.PIDS_NOW} !== ''")
        before = await self.page.run(check.PIDS_NOW)
        await self.page.click("#kill")
        await self.page.load_again()
        await self.page.until(f"!['', '{before}'].includes({check.PIDS_NOW})")
        check.tell(f"killed worker {before} {moment}, and loaded the page again")
