"""AI SDK: runs as the back end of `useChat`, for client majors 5, 6 and 7."""

from .edge import ChatEdge as ChatEdge
from .machine import End as End
from .machine import Machine as Machine
from .machine import Wire as Wire
from .machine import Withdrawn as Withdrawn
from .machine import Written as Written
from .parts import MAJORS as MAJORS
from .parts import Major as Major
from .parts import Part as Part
from .parts import check_part as check_part
from .sessions import RunPerChat as RunPerChat
from .turns import ChatRequest as ChatRequest
from .turns import RunPerTurn as RunPerTurn
from .turns import Turn as Turn
from .turns import Turns as Turns
from .writing import Parts as Parts
