"""The example's chat for clients of the major in `CHAT_MAJOR`, with the page in `CHAT_PAGE`.

It is served from the example's folder.
"""

import os
from importlib import import_module
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import offbook
from offbook.adapters.ai_sdk import MAJORS, ChatEdge, Major
from offbook.adapters.http import wrap

example: Any = import_module("chat")
major: Major = next(one for one in MAJORS if str(one) == os.environ["CHAT_MAJOR"])
page = StaticFiles(directory=os.environ["CHAT_PAGE"], html=True)
app = wrap(
    Starlette(routes=[Mount("/", page)]),
    ChatEdge(offbook.connect(), example.chat, major=major),
)
