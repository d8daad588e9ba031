"""Where images come from: the embedded digits, torchvision sets, image folders and arrays.

A file imports from `core` only and registers a `DataSource`; `benchmark` looks it up by name. Nothing here knows
backbones. Plugin authors import `register`, `DataSource` and the rest of `__all__` from here. (The folder is installed as
`ddbench.datasets`, so it lives beside the Hugging Face package named `datasets`.)
"""

from ..core.data import DATASETS, ArrayImages, DataSource, ImageData, Images, Split, array_fingerprint
from ..core.errors import UserError
from ._notes import described

register = DATASETS.register

__all__ = [
    "ArrayImages", "DataSource", "ImageData", "Images", "Split", "UserError", "array_fingerprint", "described", "register",
]  # fmt: skip
