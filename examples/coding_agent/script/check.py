"""Check the page: all that its script asks for is there, and so are its files."""

import re
import sys
import time
from pathlib import Path

page = Path("index.html").read_text("utf-8")
script = Path("app.js").read_text("utf-8")
wrong: list[str] = []


def check(what: str, missing: set[str]) -> None:
    """Say how it is, and keep what is wrong."""
    time.sleep(0.2)
    print("WRONG " if missing else "ok    ", what, *sorted(missing), flush=True)
    wrong.extend(missing)


ids = set(re.findall(r'\bid="([^"]+)"', page))
check("elements that the script uses", set(re.findall(r'find\("([^"]+)"\)', script)) - ids)
files = set(re.findall(r'(?:src|href)="([^"]+)"', page))
check("files that the page loads", {name for name in files if not Path(name).exists()})
opened = set(re.findall(r"<(\w+)", page)) - {"meta", "link", "circle"}
check("tags that are closed", opened - set(re.findall(r"</(\w+)", page)))
check("braces of the script", {"{}"} if script.count("{") != script.count("}") else set())
sys.exit(len(wrong))
