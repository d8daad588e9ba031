"""Agreement of two backbones on which images are alike: the second half of LGM's table 6 (arXiv 2511.16674).

No distilled set plays a part: a suite gives this protocol to the method `full`, once per backbone to compare with.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from ..core.backbone import BACKBONES, Backbone
from ..core.data import ImageData
from ..core.errors import Unsupported
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.params import Count
from ..core.registry import SpecOf
from ..core.run import Run
from ..core.sets import DistilledSet
from ._alignment import mutual_share, nearest


@PROTOCOLS.register("alignment")
@dataclass(frozen=True)
class Alignment(Protocol):
    """Mutual k-nearest-neighbour alignment of the eval backbone with another one, in percent, on all test images.

    Neither k nor the images of LGM's table are known; k = 10 is our choice. `chance` among the details is what unrelated
    backbones reach.
    """

    version: ClassVar[int] = 1
    measures: ClassVar[str] = "mutual nearest neighbours"

    of: Annotated[str, SpecOf(BACKBONES)]  # the backbone to compare with
    k: Count = 10  # neighbours of each image

    @property
    def judging_backbone(self) -> str:
        return self.of

    def supports(self, dset: DistilledSet) -> str | None:
        if isinstance(dset.images, Tensor):
            return "alignment compares two backbones, whatever the set; run it with the method full alone"
        return None

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        """Raises `Unsupported` where there are not more than k test images."""
        n = len(data.test)
        if n <= self.k:
            raise Unsupported(f"alignment over k={self.k} neighbours needs more test images than the {n} of {data.name}")
        other = run.backbone_of(self.of).to(run.device)
        one, two = (nearest(run.bank.features(each, data, "test")[0].to(run.device), self.k) for each in (backbone, other))
        return Evaluation((100 * mutual_share(one, two),), details={"chance": 100 * self.k / (n - 1)})
