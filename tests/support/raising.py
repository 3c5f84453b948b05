"""A module that raises: its exceptions are caught in others."""

from offbook import FatalError


class SeamTorn(Exception):
    """Carries more than a text."""

    def __init__(self, seam: str, depth: int) -> None:
        super().__init__(f"seam {seam} is torn {depth} deep")
        self.seam = seam
        self.depth = depth


def tear(seam: str) -> None:
    _rip(seam, 3)


def _rip(seam: str, depth: int) -> None:
    raise SeamTorn(seam, depth)


def tear_for_good(seam: str) -> None:
    raise FatalError(f"seam {seam} is beyond repair")
