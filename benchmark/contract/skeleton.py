"""Complete plugins of each kind to start from: `ddbench new KIND NAME`, and the examples of docs/plugins.md."""

import re
from pathlib import Path

from ...core.errors import UserError, shown

KINDS = ("method", "backbone", "dataset", "protocol")
FOLDER = Path(__file__).parent / "skeletons"


def skeleton(kind: str, name: str) -> str:
    """The source of a plugin `name`, ready to be checked. Raises `UserError` for what is no name."""
    if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
        raise UserError(f"{shown(name)} is not a name; use letters, digits, _ and -")
    title = "".join(part[:1].upper() + part[1:] for part in re.split(r"[_-]", name)) or "Plugin"
    text = (FOLDER / f"{kind}.py").read_text(encoding="utf-8")
    return text.replace("NAME", name).replace("Skeleton", title)


def write(kind: str, name: str, folder: Path) -> Path:
    """NAME.py in `folder`. Raises `UserError` if it is there already."""
    text = skeleton(kind, name)
    file = folder / f"{name.replace('-', '_')}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UserError(f"{file} is there already; choose another name, or remove it") from None
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
    return file
