"""A validation split of any dataset: `holdout[data=digits]` trains on a part of the train split and tests on the rest of it.

For choosing hyper-parameters. The test split of the dataset is not read.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated

from ..core.data import DATASETS, DataSource, ImageData, stratified_indices
from ..core.params import Field, Natural
from ..core.registry import SpecOf
from ._notes import described


@DATASETS.register("holdout")
@dataclass(frozen=True)
class Holdout(DataSource):
    """A stratified part of another dataset's train split in the place of its test split, for choosing hyper-parameters."""

    data: Annotated[str, SpecOf(DATASETS)]  # spec of the dataset: `digits`, `arrays[path=DIR,train_limit=10000]`
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of every class
    seed: Natural = 0

    def published_sizes(self) -> tuple[int, int, int] | None:
        sizes = DATASETS.create(self.data).published_sizes()
        if sizes is None:
            return None
        part = round(self.fraction * sizes[0])
        return sizes[0] - part, part, sizes[2]

    def load(self) -> ImageData:
        whole = DATASETS.create(self.data).load()
        rest, part = stratified_indices(whole.train.labels, self.fraction, self.seed)
        identity = f"{whole.fingerprint}/{self.fraction}/{self.seed}"
        data = ImageData(
            f"holdout of {whole.name}",
            whole.train.subset(rest),
            whole.train.subset(part),
            whole.class_names,
            hashlib.sha256(identity.encode()).hexdigest(),
            whole.group_names,
            class_order=whole.class_order,
            mirror=whole.mirror,
        )
        return described(data, [note for note in whole.facts.get("reading", ()) if not note.startswith("test: ")])
