"""Everything that a plugin of any kind needs: `from ddbench.plugins import Method, register_method, ...`.

    method     Method, register_method; FeatureEngine, Pyramid, optimise for gradient methods; class_labels, real_set
    backbone   Backbone, BackboneSource, BackboneSpec, register_backbone
    dataset    DataSource, ImageData, Split, ArrayImages, array_fingerprint, register_dataset
    protocol   Protocol, Evaluation, register_protocol; set_features, class_targets, no_class_targets, judged

`ddbench new KIND NAME` writes a complete file of each kind, `ddbench check NAME` tests it.
"""

# pyright: reportMissingImports=false
# (mapped at installation)
from ddbench.core.backbone import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSource, BackboneSpec
from ddbench.core.bank import FeatureBank
from ddbench.core.checkpoint import Checkpoint, optimiser_state, restore_optimiser
from ddbench.core.data import DATASETS, ArrayImages, DataSource, ImageData, Images, Split, array_fingerprint, stage
from ddbench.core.engine import FeatureEngine
from ddbench.core.errors import Diverged, NotHere, Unsupported, UserError
from ddbench.core.images import Pixels, Pyramid
from ddbench.core.method import METHODS, PROTOCOLS, Evaluation, Method, Protocol
from ddbench.core.optimise import Schedule, optimise
from ddbench.core.params import Count, Natural, NonNegative, Positive, Probability, spec_string
from ddbench.core.run import Run
from ddbench.core.sets import DistilledSet, class_labels, real_set
from ddbench.core.views import CENTRE, View
from ddbench.evaluation._evaluation import judged
from ddbench.evaluation._features import class_targets, is_whole_train_split, no_class_targets, set_features

register_method = METHODS.register
register_backbone = BACKBONES.register
register_dataset = DATASETS.register
register_protocol = PROTOCOLS.register

__all__ = [
    "CENTRE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ArrayImages",
    "Backbone",
    "BackboneSource",
    "BackboneSpec",
    "Checkpoint",
    "Count",
    "DataSource",
    "DistilledSet",
    "Diverged",
    "Evaluation",
    "FeatureBank",
    "FeatureEngine",
    "ImageData",
    "Images",
    "Method",
    "Natural",
    "NonNegative",
    "NotHere",
    "Pixels",
    "Positive",
    "Probability",
    "Protocol",
    "Pyramid",
    "Run",
    "Schedule",
    "Split",
    "Unsupported",
    "UserError",
    "View",
    "array_fingerprint",
    "class_labels",
    "class_targets",
    "is_whole_train_split",
    "judged",
    "no_class_targets",
    "optimise",
    "optimiser_state",
    "real_set",
    "register_backbone",
    "register_dataset",
    "register_method",
    "register_protocol",
    "restore_optimiser",
    "set_features",
    "spec_string",
    "stage",
]
