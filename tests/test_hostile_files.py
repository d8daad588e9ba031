"""Files that others made, by hypothesis: read, or refused in one line. Sets, arrays, tensors, images, weights, claims."""

import contextlib
import io
import json
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.torch import save
from torch import nn

from ddbench.backbones._weights import load_state, read_state
from ddbench.benchmark.cli import main
from ddbench.benchmark.foreign.read import read_external
from ddbench.benchmark.published.claim import PUBLISHED, read_claims
from ddbench.core.sets import DistilledSet
from ddbench.datasets._decode import look, rgb
from ddbench.datasets.arrays import Arrays

from .benchmark.fake_records import grid
from .conftest import tiny_data
from .hostile import JSON, TEXT, hostile, mutated, read_or_refused

DATA = tiny_data()
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(3)


def stored_set(folder: Path) -> Path:
    targets = torch.rand(3, 3, generator=torch.Generator().manual_seed(1))
    DistilledSet(IMAGES, LABELS, DATA.class_names, targets, "class_probabilities", provenance={"ipc": 1}).save(folder)
    return folder


@pytest.fixture(scope="module")
def a_set(tmp_path_factory):
    return stored_set(tmp_path_factory.mktemp("set") / "set")


@st.composite
def cards(draw, card):
    """What set.json may hold: another value somewhere, or anything."""
    card = {key: value for key, value in card.items() if key != "crc32"}
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from([*card]))
    if draw(st.booleans()):
        card[key] = draw(JSON | st.lists(TEXT, min_size=3, max_size=3))
    else:
        del card[key]
    return card


@hostile
@given(case=st.data())
def test_set_cards(case, a_set, tmp_path):
    card = case.draw(cards(json.loads((a_set / "set.json").read_text())))
    folder = tmp_path / "set"
    stored_set(folder)
    (folder / "set.json").write_text(json.dumps(card))
    dset = read_or_refused(DistilledSet.load, folder, DATA)
    if dset is not None:
        read_or_refused(dset.save, tmp_path / "again")
        assert main(["show", str(folder)]) in (0, 2)


@hostile
@given(case=st.data())
def test_set_files(case, a_set, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    damaged = case.draw(st.sampled_from(["set.json", "set.safetensors"]))
    for name in ("set.json", "set.safetensors"):
        content = (a_set / name).read_bytes()
        (folder / name).write_bytes(case.draw(mutated([content])) if name == damaged else content)
    read_or_refused(DistilledSet.load, folder, DATA)


DTYPES = st.one_of(
    hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?"),
    hnp.boolean_dtypes(), hnp.complex_number_dtypes(), hnp.datetime64_dtypes(), hnp.unicode_string_dtypes(max_len=3),
    hnp.byte_string_dtypes(max_len=3),
)  # fmt: skip
PICTURES = st.sampled_from(
    [(3, 3, 8, 8), (3, 8, 8, 3), (3, 8, 8), (3, 8, 8, 4), (0, 3, 8, 8), (3, 3, 0, 8), (), (3,), (3, 1, 8, 8)]
)
VECTORS = st.sampled_from([(3,), (3, 1), (3, 3), (2,), (), (0,), (3, 0), (3, 3, 3)])


@hostile
@given(images=hnp.arrays(DTYPES, PICTURES), labels=hnp.arrays(DTYPES, VECTORS), packed=st.booleans())
def test_arrays(images, labels, packed, tmp_path):
    for name in ("train", "test"):
        (np.savez_compressed if packed else np.savez)(tmp_path / f"{name}.npz", images=images, labels=labels)
    read_or_refused(Arrays(path=tmp_path).load)
    read_or_refused(read_external, tmp_path / "train.npz", DATA)


def npz(**arrays) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


ARRAYS = npz(images=(IMAGES.numpy() * 255).astype(np.uint8), labels=LABELS.numpy())
TENSORS = save({"images": IMAGES, "labels": LABELS})


@hostile
@given(content=mutated([ARRAYS, TENSORS]))
def test_files_of_arrays(content, tmp_path):
    for suffix in ("npz", "safetensors"):
        for split in ("train", "test"):
            (tmp_path / f"{split}.{suffix}").write_bytes(content)
        read_or_refused(read_external, tmp_path / f"train.{suffix}", DATA)
    read_or_refused(Arrays(path=tmp_path).load)


def sparse(tensor):
    return tensor.to_sparse()


def quantised(tensor):
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8)


def meta(tensor):
    return tensor.to("meta")


def with_gradient(tensor):
    return tensor.float().requires_grad_()


def expanded(tensor):
    return tensor.reshape(-1)[:1].expand(3, 3, 8, 10**6)


def nans(tensor):
    return tensor.float() / 0


def nested(tensor):
    return torch.nested.nested_tensor([tensor.reshape(-1), tensor.reshape(-1)[:1]])


NUMBERS = [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.uint16, torch.uint64, torch.int8, torch.int64,
           torch.bool, torch.complex64, torch.float8_e4m3fn]  # fmt: skip


@st.composite
def tensors(draw, plain):
    """One of the plain tensors in another type, of another kind, or less than whole."""
    tensor = draw(st.sampled_from(plain)).to(draw(st.sampled_from([torch.float32, *NUMBERS])))
    kinds = [
        sparse, quantised, meta, with_gradient, expanded, nans, nested, lambda x: x[:0], lambda x: x[..., :0], lambda x: -x,
    ]  # fmt: skip
    kind = draw(st.sampled_from([lambda x: x, *kinds]))
    # torch warns of what it is still trying out; and not every kind is there in every type
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(RuntimeError, NotImplementedError):
        return kind(tensor)
    return tensor


@hostile
@given(
    images=tensors([IMAGES, IMAGES * 255, IMAGES[0], IMAGES[:, :1]]),
    labels=tensors([LABELS, LABELS * 10**6, torch.eye(3)]),
    form=st.sampled_from([lambda x, y: (x, y), lambda x, y: {"images": x, "labels": y}, lambda x, y: {"a": {"x": x, "y": y}},
                          lambda x, y: [x], lambda x, y: x, lambda x, y: {"images": [x], 5: y}]),
)  # fmt: skip
def test_torch_files(images, labels, form, tmp_path):
    with warnings.catch_warnings(action="ignore"):
        torch.save(form(images, labels), tmp_path / "set.pth")
        read_or_refused(read_external, tmp_path / "set.pth", DATA)
        read_or_refused(read_state, tmp_path / "set.pth")


NETWORK = nn.Linear(2, 3)


def torch_bytes() -> bytes:
    packed = io.BytesIO()
    torch.save(NETWORK.state_dict(), packed)
    return packed.getvalue()


@hostile
@given(content=mutated([torch_bytes(), save(NETWORK.state_dict())]))
def test_weights(content, tmp_path):
    for suffix in ("pth", "safetensors"):
        file = tmp_path / f"weights.{suffix}"
        file.write_bytes(content)
        with warnings.catch_warnings(action="ignore"):
            state = read_or_refused(read_state, file)
        if state is not None:
            read_or_refused(load_state, nn.Linear(2, 3), state, file)


def picture(form: str, mode: str, **options) -> bytes:
    packed = io.BytesIO()
    Image.fromarray((IMAGES[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)).convert(mode).save(packed, form, **options)
    return packed.getvalue()


PICTURE_FILES = [
    picture("PNG", "RGBA"), picture("PNG", "P", bits=4), picture("JPEG", "RGB"), picture("BMP", "RGB"),
    picture("PPM", "RGB"), picture("PPM", "L"), picture("GIF", "P"), picture("TIFF", "CMYK"), picture("WEBP", "RGB"),
]  # fmt: skip


@hostile
@given(content=mutated(PICTURE_FILES))
def test_images(content, tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(content)
    with warnings.catch_warnings(action="ignore"):  # of Pillow, about what it reads all the same
        read_or_refused(look, file)
        read_or_refused(rgb, file)


HEADER, *CLAIMS = (PUBLISHED / "lgm.csv").read_text().splitlines()[:4]


@hostile
@given(text=mutated(["\n".join([HEADER, *CLAIMS, ""])]))
def test_claims(text, tmp_path):
    file, run = tmp_path / "claims.csv", tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in grid()[:2]))
    file.write_bytes(text.encode(errors="surrogatepass"))
    if read_or_refused(read_claims, [file]) is not None:
        assert main(["table", str(run), "--against", f"published={file}"]) in (0, 2)


def test_a_claim_of_terabytes_in_a_safetensors_header_is_refused(tmp_path):
    header = json.dumps({"images": {"dtype": "F32", "shape": [10**6, 3, 1024, 1024], "data_offsets": [0, 12 * 2**40]}}).encode()
    (tmp_path / "set.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert read_or_refused(read_external, tmp_path / "set.safetensors", DATA) is None
    assert read_or_refused(read_state, tmp_path / "set.safetensors") is None
