"""The decoder: depths, transparency in every mode that has it, frames, and pictures that are too large."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from ddbench.core.errors import UserError
from ddbench.datasets._decode import MOST_PIXELS, extensions, look, rgb

RAMP = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    out.seek(0)
    return out


def pixels(file, **options):
    return np.asarray(rgb(file, name="x", **options)[0])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bits_become_eight_rounded(kind):
    """Pillow's conversion to RGB would clip at 255, which leaves white."""
    shown, seen = rgb(encoded(Image.fromarray(RAMP), kind), name="x")
    assert np.abs(np.asarray(shown)[..., 0].astype(float) - RAMP / 257).max() <= 0.5 + 1e-6
    assert seen.sixteen_bit


def test_sixteen_bits_of_colour_and_inks_are_said():
    """Pillow reads the upper 8 bits, and inks without the profile that says which."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = np.full((2, 2, 3), 40_000, ">u2")
    header, body = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0), b"".join(b"\0" + row.tobytes() for row in rows)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    inks = encoded(Image.new("CMYK", (4, 4), (0, 255, 0, 0)), "JPEG")
    for read in (lambda file: rgb(file, name="x")[1], lambda file: look(file, "x")):
        deep, flat = read(io.BytesIO(png)), read(inks)
        assert (deep.sixteen_bit, deep.cmyk, flat.sixteen_bit, flat.cmyk) == (True, False, False, True)
        inks.seek(0)
    assert pixels(io.BytesIO(png))[0, 0].tolist() == [40_000 >> 8] * 3


def test_sixteen_bits_of_pnm():
    file = io.BytesIO(b"P5 2 1 65535 " + np.array([0, 40_000], ">u2").tobytes())
    assert pixels(file)[0, :, 0].tolist() == [0, round(40_000 / 257)]


def test_a_transparent_level_of_sixteen_bits():
    """tRNS names one grey level, here that of the first row."""
    raw = encoded(Image.fromarray(np.array([[1000] * 4, [65535] * 4], np.uint16)), "PNG").getvalue()
    body = b"tRNS" + struct.pack(">H", 1000)
    at = raw.index(b"IDAT") - 4
    file = io.BytesIO(raw[:at] + struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body)) + raw[at:])
    assert pixels(file, background="black")[:, 0, 0].tolist() == [0, 255]
    file.seek(0)
    assert pixels(file, background="white")[:, 0, 0].tolist() == [255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa", "P", "RGB", "L", "1"])
def test_transparency_in_every_mode_that_has_it(mode):
    """White on the left, transparent black on the right, on red."""
    grey = np.zeros((4, 4), np.uint8)
    grey[:, :2] = 255
    image = Image.fromarray(grey)
    if mode in ("P", "RGB", "L", "1"):
        hidden = {"P": 0, "RGB": (0, 0, 0), "L": 0, "1": 0}[mode]
        file = encoded(image.convert(mode), "PNG", transparency=hidden)
    else:
        image.putalpha(Image.fromarray(grey))
        file = encoded(image.convert("RGBA" if mode in ("PA", "RGBa") else "LA"), "PNG")
    shown, seen = rgb(file, "#ff0000", "x")
    assert np.asarray(shown)[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(shown)[0, 3].tolist() == [255, 0, 0]
    assert seen.transparent
    file.seek(0)
    assert look(file, "x").transparent


def test_half_transparent_pixels_are_mixed():
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert pixels(encoded(image, "PNG"))[0, 0].tolist() == [127] * 3


def test_the_first_frame_is_read_and_said():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    shown, seen = rgb(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), name="x")
    assert np.asarray(shown)[0, 0].tolist() == [255, 0, 0]
    assert seen.frames
    assert not rgb(encoded(frames[0], "GIF"), name="x")[1].frames


@pytest.mark.parametrize("millions", [169, 400])
def test_huge_pictures_are_one_line_within_a_second(millions, tmp_path):
    side = round((millions * 1e6) ** 0.5)
    raw = encoded(Image.new("1", (8, 8)), "PNG").getvalue()
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    chunks = [header, b"IDAT" + rows, b"IEND"]
    file = tmp_path / "x.png"
    file.write_bytes(raw[:8] + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks))
    started = time.monotonic()
    with pytest.raises(UserError, match=f"x.png has {millions} million pixels, more than the 89 million .* scale it down"):
        rgb(file)
    assert time.monotonic() - started < 1
    assert side**2 > MOST_PIXELS


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)])
def test_depths_of_which_nothing_says_what_is_white_are_refused(array):
    for read in (rgb, look):
        with pytest.raises(
            UserError, match=r"image x has [IF] pixels \(32 bits\).* write 8 or 16 bits per channel; convert it"
        ):
            read(encoded(Image.fromarray(array), "TIFF"), name="x")


def test_extensions_are_those_of_formats_that_pillow_itself_decodes():
    assert {
        ".jpg",
        ".jfif",
        ".jpe",
        ".png",
        ".webp",
        ".bmp",
        ".ppm",
        ".pgm",
        ".tif",
        ".gif",
        ".mpo",
        ".jp2",
        ".tga",
    } <= extensions()
    assert not extensions() & {".eps", ".ps", ".pdf", ".h5", ".mpg", ".txt", ".npy"}
