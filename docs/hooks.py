"""The site has no files outside docs/: links to them become their paths."""

import re


def on_page_markdown(markdown: str, **_) -> str:
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)
