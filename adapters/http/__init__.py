"""The HTTP edge: runs, streams, hooks and webhooks over ASGI, in any web framework."""

from .asgi import Incoming as Incoming
from .calls import Limits as Limits
from .edge import Edge as Edge
from .problems import Problem as Problem
from .signatures import signed_headers as signed_headers
from .wrapping import wrap as wrap
