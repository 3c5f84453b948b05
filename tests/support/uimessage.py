"""A page's side of the protocol, strict: it builds a message and fails where real clients fail."""

from typing import Any

from offbook.adapters.ai_sdk.parts import SHAPES, Major, finish_reason

Part = dict[str, Any]


class ClientGaveUp(AssertionError):
    """What the page's library raises: the stream is lost."""


class Page:
    """Takes chunks as the client of one major does."""

    def __init__(self, major: Major) -> None:
        self.major: Major = major
        self.id = ""
        self.parts: list[Part] = []
        self.metadata: Any = None
        self.transient: list[Part] = []
        self.finished: str | None = None
        self.error: str | None = None
        self.chunks = 0
        self._active: dict[tuple[str, str], Part] = {}
        self._partial: dict[str, Part] = {}

    @property
    def visible(self) -> list[Part]:
        """The parts without the marks of steps."""
        return [part for part in self.parts if part["type"] != "step-start"]

    @property
    def text(self) -> str:
        return "".join(p["text"] for p in self.parts if p["type"] == "text")

    def take(self, chunk: Part) -> None:
        """Take the next chunk.

        Raises:
            ClientGaveUp: the real client would.
        """
        if self.finished is not None:
            raise ClientGaveUp("a chunk after finish")
        self.chunks += 1
        kind: str = chunk["type"]
        family, _, what = kind.partition("-")
        self._check_known(kind)
        if family in {"text", "reasoning"} and what in {"start", "delta", "end"}:
            self._prose(family, what, chunk)
        elif family == "tool":
            self._tool(what, chunk)
        elif family == "data":
            self._data(chunk)
        else:
            self._rest(kind, chunk)

    def _check_known(self, kind: str) -> None:
        known = kind.startswith("data-") or (kind in SHAPES and SHAPES[kind].since <= self.major)
        if not known:
            raise ClientGaveUp(f"the type {kind}")

    def _prose(self, family: str, what: str, chunk: Part) -> None:
        key = (family, chunk["id"])
        if what == "start":
            self._active[key] = {"type": family, "text": "", "state": "streaming"}
            self.parts.append(self._active[key])
            return
        if key not in self._active:
            raise ClientGaveUp(f"{family}-{what} without its start")
        if what == "delta":
            self._active[key]["text"] += chunk["delta"]
        else:
            self._active.pop(key)["state"] = "done"

    def _since_step(self) -> list[Part]:
        at = len(self.parts)
        while at and self.parts[at - 1]["type"] != "step-start":
            at -= 1
        return self.parts[at:]

    def _tool(self, what: str, chunk: Part) -> None:
        if what == "approval-response":
            self._find(chunk["approvalId"], "approval")["state"] = "approval-responded"
            return
        call: str = chunk["toolCallId"]
        if what.startswith("input-"):
            self._input(what, call, chunk)
            return
        part = self._find(call, "call")
        wrong = self.major == 5 and bool(chunk.get("dynamic")) != part["dynamic"]
        if wrong and what in {"output-available", "output-error"}:
            raise ClientGaveUp("`dynamic` of the output is not the call's")
        part["state"] = what
        for name in ("output", "errorText"):
            if name in chunk:
                part[name] = chunk[name]
        if what == "approval-request":
            part["approval"] = chunk["approvalId"]

    def _input(self, what: str, call: str, chunk: Part) -> None:
        if what == "input-delta":
            if call not in self._partial:
                raise ClientGaveUp("tool-input-delta without its start")
            self._partial[call]["raw"] += chunk["inputTextDelta"]
            return
        found = [p for p in self._since_step() if p.get("call") == call]
        dynamic = bool(chunk.get("dynamic"))
        part = next((p for p in found if p["dynamic"] == dynamic), None)
        if part is None:
            part = Part(type="tool", call=call, dynamic=dynamic)
            self.parts.append(part)
        part.update(state=what, name=chunk["toolName"], input=chunk.get("input"), raw="")
        if what == "input-start":
            self._partial[call] = part

    def _find(self, value: str, name: str) -> Part:
        for part in (*self._since_step(), *reversed(self.parts)):
            if part.get(name) == value:
                return part
        raise ClientGaveUp(f"no {name} {value}")

    def _data(self, chunk: Part) -> None:
        if chunk.get("transient"):
            self.transient.append(chunk)
            return
        same = [
            p for p in self.parts
            if "id" in chunk and p["type"] == chunk["type"] and p.get("id") == chunk["id"]
        ]  # fmt: skip
        if same:
            same[0]["data"] = chunk["data"]
        else:
            self.parts.append(dict(chunk))

    def _rest(self, kind: str, chunk: Part) -> None:
        match kind:
            case "start":
                self.id = chunk["messageId"]
            case "message-metadata":
                self.metadata = {**(self.metadata or {}), **chunk["messageMetadata"]}
            case "start-step":
                self.parts.append({"type": "step-start"})
            case "finish-step":
                if self.major < 7:
                    self._active.clear()
            case "reset-step":
                self._reset()
            case "finish":
                self._finish(chunk)
            case "error" | "abort":
                self.error = chunk.get("errorText", "aborted")
            case _:
                self.parts.append(dict(chunk))

    def _reset(self) -> None:
        kept = len(self.parts) - len(self._since_step())
        if not kept:
            raise ClientGaveUp("reset-step without its step: all would be lost")
        del self.parts[kept:]
        self._active.clear()
        self._partial.clear()

    def _finish(self, chunk: Part) -> None:
        reason = chunk.get("finishReason")
        if finish_reason(reason, self.major) != reason:
            raise ClientGaveUp(f"the reason {reason}")
        self.finished = reason or ""
