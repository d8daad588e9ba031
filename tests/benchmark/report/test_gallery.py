"""The picture of distilled images."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.benchmark.report.gallery import _folded, gallery
from ddbench.core.errors import UserError
from ddbench.core.sets import DistilledSet, class_labels


def grey(classes: int, ipc: int, value: float) -> DistilledSet:
    images = torch.full((classes * ipc, 3, 8, 8), value)
    return DistilledSet(images, class_labels(classes, ipc), tuple(f"class {c}" for c in range(classes)))


def drawn(path, *sets, title="") -> np.ndarray:
    """Grey levels `(h, w)` of the picture."""
    with Image.open(gallery(sets, path, title)) as picture:
        return np.asarray(picture.convert("L"))


def test_several_sets_give_a_row_each_with_images_of_at_least_64_pixels(tmp_path):
    pixels = drawn(tmp_path / "a.png", ("clpdd a", grey(3, 1, 0.2)), ("clpdd b", grey(3, 1, 0.8)), title="digits, IPC 1")
    assert (pixels == 51).sum() >= 3 * 64 * 64
    assert (pixels == 204).sum() >= 3 * 64 * 64


def test_one_set_shows_a_row_per_image_of_a_class(tmp_path):
    one, four = drawn(tmp_path / "a.png", ("", grey(2, 1, 0.5))), drawn(tmp_path / "b.png", ("", grey(2, 4, 0.5)))
    assert four.shape[0] - one.shape[0] == 3 * 68


def test_many_classes_are_cut_to_a_readable_width(tmp_path):
    assert drawn(tmp_path / "a.png", ("", grey(50, 1, 0.5))).shape[1] < 25 * 80


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(UserError, match="no distilled images"):
        gallery([], tmp_path / "a.png")


def test_long_labels_are_broken_into_lines_that_fit_beside_their_image():
    spec = "duet[steps=100] timm[model=mobilenetv2_100,weights=data/weights/file.safetensors,mean=(0.5, 0.5, 0.5)]"
    lines = _folded(spec, 6).split("\n")
    assert max(map(len, lines)) <= 40
    assert "".join(lines).replace(" ", "") == spec.replace(" ", "")
    assert _folded(spec, 2).count("\n") == 1
    assert _folded(spec, 2).endswith("…")
    assert _folded("clpdd mini_vit_mae", 4) == "clpdd mini_vit_mae"


@pytest.mark.parametrize("name", ["Gänseblümchen", "Löwenzahn", "čmelák"])
def test_class_names_outside_ascii_are_letters_not_boxes(name):
    from ddbench.benchmark.report.gallery import _lacks, font_for

    pytest.importorskip("matplotlib", reason="needs a font beyond ASCII: matplotlib ships one")
    font = font_for([name])
    assert not [letter for letter in name if _lacks(font, letter)]
    assert not _lacks(font, "a")
    assert _lacks(font, "\U0010fffe")
