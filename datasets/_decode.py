"""The one decoder of image files, for datasets and for sets made elsewhere: what is read, and as which RGB pixels.

Read: every format that Pillow decodes by itself, at most `MOST_PIXELS` pixels, the first frame, EXIF orientation honoured.
Transparency is composited on a stated background; dropping alpha would show whatever lies hidden under it. 16 bits per channel
are scaled to 8; Pillow's own conversion clips them at 255, that is, to white. Float and 32-bit pixels are refused.
"""

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from PIL import Image, ImageColor, ImageOps

from ..core.errors import UserError
from ..core.params import AfterValidator

MOST_PIXELS = 89_478_485  # Pillow's own bound against decompression bombs: 256 MB as RGB, decoded within a second
# stubs that decode nothing (their decoders are other programs), and PostScript, which Ghostscript would execute
_NOT_DECODED = {"BUFR", "GRIB", "HDF5", "WMF", "MPEG", "EPS"}
_SEVERAL_FRAMES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # MPO's further frames are previews of the first
_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # it becomes the error of `opened`


def check_colour(name: str) -> str:
    """`name` if it is a colour. Raises `UserError`."""
    try:
        if len(ImageColor.getrgb(name)) == 3:
            return name
    except ValueError:
        pass
    raise UserError(f"{name!r} is no colour; write a name such as white, or #rrggbb")


Colour = Annotated[str, AfterValidator(check_colour)]


@dataclass(frozen=True)
class Seen:
    """What one image file turned out to be."""

    mode: str  # Pillow's: RGB, L, P, RGBA, CMYK, I;16 ...
    size: tuple[int, int]  # width and height as stored
    transparent: bool = False  # whether any pixel is; not merely an alpha channel
    sixteen_bit: bool = False
    cmyk: bool = False  # inks, turned into RGB without the profile that says which
    frames: bool = False  # several, of which the first is read


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are decoded."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_DECODED)


@cache
def extensions() -> frozenset[str]:
    """File extensions that are read, in lower case: all that Pillow registers for a format that it decodes."""
    found = Image.registered_extensions()
    return frozenset(end for end, name in found.items() if name in formats() or name == "MPO")  # opened by the JPEG plugin


def rgb(file: Path | BinaryIO, background: str = "white", name: str | None = None) -> tuple[Image.Image, Seen]:
    """One image file as an RGB image of its own size, and what it is.

    `name` is what errors call the image, by default its path. Raises `UserError` for what cannot be decoded.
    """
    with named(name or file, "is corrupt or truncated"), opened(file, name) as image:
        frames, deep = _has_frames(image), _is_stored_in_sixteen(image)
        image.load()
        shown, transparent = _eight_bit_rgb(image, _is_sixteen_bit(image), background)
        return shown, Seen(image.mode, image.size, transparent, deep, image.mode == "CMYK", frames)


def look(file: Path | BinaryIO, name: str | None = None) -> Seen:
    """What the header of a file tells; only pixels that may be transparent are decoded. Errors as `rgb`."""
    with named(name or file, "cannot be opened"), opened(file, name) as image:
        _check_depth(image, _is_sixteen_bit(image))
        deep, frames = _is_stored_in_sixteen(image), _has_frames(image)
        if not _may_be_transparent(image):
            return Seen(image.mode, image.size, False, deep, image.mode == "CMYK", frames)
    return rgb(file, name=name)[1]


def square(file: Path | BinaryIO, size: int, background: str = "white", name: str | None = None) -> tuple[np.ndarray, Seen]:
    """One image as uint8 `(3, size, size)`: shorter side to `size` (antialiased), centre crop; and what it is."""
    image, seen = rgb(file, background, name)
    side = min(image.size)
    if side != size:
        width, height = (max(size, round(length * size / side)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1), seen


@contextlib.contextmanager
def opened(file: Path | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """The open, undecoded image. Raises `UserError` for one of more than `MOST_PIXELS`."""
    try:
        if isinstance(file, Path) and not file.is_file() and file.exists():
            raise UserError(f"image {file} is no regular file; remove it")
        image = Image.open(file, formats=formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        raise _too_large(name or file, int(pixels.group(1)) if pixels else None) from error
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise _too_large(name or file, image.width * image.height)
        yield image


def _too_large(file: object, pixels: int | None) -> UserError:
    count = "more" if pixels is None else f"{pixels / 1e6:,.0f} million pixels, more"
    return UserError(f"image {file} has {count} than the {MOST_PIXELS // 10**6} million that are decoded; scale it down")


@contextlib.contextmanager
def named(file: object, what: str) -> Iterator[None]:
    """Turns any error of the block into one line that names the image file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"image {file} is missing; the set is incomplete, unpack or download it again") from error
    except (MemoryError, UserError):
        raise
    except _Depth as error:
        raise UserError(f"image {file} {error}; convert it") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"image {file} {what}: {reason}; replace or remove it") from error


class _Depth(Exception):
    """Pixels whose range nobody declared."""


def _is_stored_in_sixteen(image: Image.Image) -> bool:
    """Whether an undecoded image has 16 bits per channel; of colour Pillow reads the upper 8."""
    return _is_sixteen_bit(image) or any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def _is_sixteen_bit(image: Image.Image) -> bool:
    """Grey images of 16 bits; Pillow scales PNM to 65535 and reads 16 bits of colour as 8."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _check_depth(image: Image.Image, sixteen: bool) -> None:
    if image.mode[0] in "IF" and not sixteen:
        raise _Depth(f"has {image.mode} pixels (32 bits), of which nothing says what is white; write 8 or 16 bits per channel")


def _may_be_transparent(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def _has_frames(image: Image.Image) -> bool:
    if image.format not in _SEVERAL_FRAMES:
        return False
    with contextlib.suppress(Exception):  # of broken later frames
        return bool(getattr(image, "is_animated", False))
    return True


def _eight_bit_rgb(image: Image.Image, sixteen: bool, background: str) -> tuple[Image.Image, bool]:
    """The decoded image upright and in RGB, and whether any of it was transparent."""
    _check_depth(image, sixteen)
    with contextlib.suppress(Exception):  # a picture with broken EXIF is still a picture
        image = ImageOps.exif_transpose(image)
    if sixteen:
        image = _scaled(image)
    if _may_be_transparent(image):
        return _composited(image, background)
    return image if image.mode == "RGB" else image.convert("RGB"), False


def _scaled(image: Image.Image) -> Image.Image:
    """65,536 levels to 256, rounded; a transparent level becomes an alpha channel."""
    levels = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if isinstance(hidden := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(levels == hidden, 0, 255).astype(np.uint8)))
    return grey


def _composited(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    layer = (image.convert(straight) if straight else image).convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return layer.convert("RGB"), False
    canvas = Image.new("RGBA", layer.size, background)
    canvas.alpha_composite(layer)
    return canvas.convert("RGB"), True


_PECULIAR = {
    "transparent": "transparent pixels, composited on {background}",
    "sixteen_bit": "16 bits per channel, scaled to 8",
    "cmyk": "inks (CMYK) for pixels, turned into RGB without a colour profile",
    "frames": "several frames, of which the first is read",
}


def survey(seen: Sequence[Seen], name_of: Callable[[int], str]) -> dict[str, Any]:
    """JSON-ready counts over many files: modes, sizes, and for each peculiarity how many and the first by name."""
    sizes = Counter(one.size for one in seen)
    found: dict[str, Any] = {
        "images": len(seen),
        "modes": dict(Counter(one.mode for one in seen).most_common()),
        "sizes": {"distinct": len(sizes), "smallest": None, "largest": None, "most_common": None},
    }
    if sizes:
        by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        found["sizes"].update(smallest=by_area[0], largest=by_area[-1], most_common=sizes.most_common(1)[0][0])
    for kind in _PECULIAR:
        chosen = [k for k, one in enumerate(seen) if getattr(one, kind)]
        found[kind] = {"count": len(chosen), "first": name_of(chosen[0]) if chosen else None}
    return found


def survey_notes(found: dict[str, Any], background: str) -> Iterator[str]:
    """A line for each peculiarity of a `survey` that changes pixels."""
    for kind, text in _PECULIAR.items():
        if count := found[kind]["count"]:
            told = text.format(background=background)
            yield f"{count:,} image{'s have' if count > 1 else ' has'} {told} (first {found[kind]['first']})"
