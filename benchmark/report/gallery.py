"""A PNG of distilled images: one row per set, one column per class, labels drawn beside them."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...core.errors import UserError
from ...core.sets import DistilledSet

_SIDE = 64  # smallest side of a shown image, pixels; smaller ones are enlarged by a whole factor
_GAP = 4  # pixels between images
_FONT = 16  # points
_COLUMNS = 20  # classes shown; the rest is named in the title
_PER_CLASS = 10  # images of a class shown when one set fills the picture
_LABEL = 40  # characters of a line of a row's label, where it can be broken


def gallery(sets: Sequence[tuple[str, DistilledSet]], path: Path, title: str = "") -> Path:
    """Draw labelled sets of one dataset into `path` and return it.

    Several sets: a row each, with the first image of every class. One set: a row per image of a class. Raises `UserError`
    where there is nothing to draw.
    """
    sets = [(label, dset) for label, dset in sets if len(dset)]
    if not sets:
        raise UserError("there are no distilled images to draw")
    class_names = sets[0][1].class_names
    shown = min(len(class_names), _COLUMNS)
    depth = _PER_CLASS if len(sets) == 1 else 1
    rows = [(name, images) for label, dset in sets for name, images in _rows(label, dset, shown, depth)]
    more = f" (first {shown} of {len(class_names)} classes)" if shown < len(class_names) else ""
    picture = _draw(rows, [_shorten(name, 10) for name in class_names[:shown]], title + more)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def _rows(label: str, dset: DistilledSet, shown: int, depth: int) -> list[tuple[str, list[Tensor | None]]]:
    """Up to `depth` rows with one image `(3, h, w)` per class, None where a class has no further image."""
    if dset.labels is None:  # sets with targets only: in their stored order
        order = [torch.arange(c, len(dset), shown) for c in range(shown)]
    else:
        order = [(dset.labels == c).nonzero().flatten() for c in range(shown)]
    depth = min(depth, max(1, max(map(len, order))))
    rows = []
    for k in range(depth):
        images = [dset.batch(members[k : k + 1])[0] if len(members) > k else None for members in order]
        rows.append((label if k == 0 else "", images))
    return rows


def _draw(rows: list[tuple[str, list[Tensor | None]]], columns: list[str], title: str) -> Image.Image:
    font = font_for([title, *columns, *(label for label, _ in rows)])
    native = max(image.shape[-1] for _, images in rows for image in images if image is not None)
    side = native * max(1, -(-_SIDE // native))
    pitch = max(side, *(int(font.getlength(name)) for name in columns)) + _GAP
    rows = [(_folded(label, side // _FONT), images) for label, images in rows]
    left = max(int(font.getlength(line)) for label, _ in rows for line in label.split("\n")) + 3 * _GAP
    top = 2 * (_FONT + 2 * _GAP)
    width = max(left + pitch * len(columns), int(font.getlength(title)) + 2 * _GAP)
    picture = Image.new("RGB", (width + _GAP, top + (side + _GAP) * len(rows) + _GAP), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((_GAP, _GAP), title, fill="black", font=font)
    for c, name in enumerate(columns):
        pen.text((left + pitch * c + side / 2, top - 2 * _GAP), name, fill="black", font=font, anchor="ms")
    for r, (label, images) in enumerate(rows):
        y = top + (side + _GAP) * r
        place = left - 2 * _GAP, y + side / 2
        pen.multiline_text(place, label, fill="black", font=font, anchor="rm", align="right", spacing=0)
        for c, image in enumerate(images):
            if image is not None:
                picture.paste(_enlarged(image, side), (left + pitch * c, y))
    return picture


def font_for(texts: Sequence[str]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that has the letters of all texts, where this machine has one: Pillow's own knows ASCII only."""
    if all(text.isascii() for text in texts):
        return ImageFont.load_default(_FONT)
    letters = {letter for text in texts for letter in text if not letter.isspace()}
    fonts = [ImageFont.truetype(file, _FONT) for file in _font_files()]
    missing = [sum(_lacks(font, letter) for letter in letters) for font in fonts]
    return fonts[missing.index(min(missing))] if fonts else ImageFont.load_default(_FONT)


def _font_files() -> list[Path]:
    """DejaVu of matplotlib, where it is installed, and what the system has for other scripts."""
    found = importlib.util.find_spec("matplotlib")
    shipped = [Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"] if found and found.origin else []
    folders = [Path(folder) for folder in _SYSTEM_FONTS]
    others = [file for folder in folders for name in _FONT_NAMES for file in sorted(folder.rglob(name))[:1]]
    return [file for file in (*shipped, *others) if file.is_file()]


_SYSTEM_FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts")
_FONT_NAMES = ("DejaVuSans.ttf", "NotoSansCJK*.ttc", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "LiberationSans-Regular.ttf",
               "arial.ttf")  # fmt: skip


def _lacks(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether the font draws its box for unknown letters."""
    return bytes(font.getmask(letter)) == bytes(font.getmask("\U0010fffe"))  # type: ignore[arg-type]


def _enlarged(image: Tensor, side: int) -> Image.Image:
    """An image `(3, h, w)` in [0, 1] with every pixel as a square."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def _folded(label: str, lines: int) -> str:
    """The label in at most `lines` lines, broken after blanks, commas, brackets and slashes; what is too long ends in …"""
    folded = [""]
    for part in re.findall(r"[^ ,\[/]*[ ,\[/]?", label):
        if len(folded[-1]) + len(part.rstrip()) > _LABEL and folded[-1]:
            folded.append("")
        folded[-1] += part
    return "\n".join(line.rstrip() for line in folded[:lines]) + "…" * (len(folded) > lines)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
