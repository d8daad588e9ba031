"""What a record holds: every field with its type and meaning, and the check of records that come from elsewhere.

docs/records.md is this table; a test compares both, and the fields with those that a run writes.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from ...core.errors import shown

_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "name": (str,),
    "whole": (int,),
    "number": (int, float),
    "yes or no": (bool,),
    "mapping": (dict,),
    "list": (list,),
    "numbers": (list,),
}


_NAME = r"[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,199}"  # folders and logs are called by it, in the run folder and nowhere else


@dataclass(frozen=True)
class Field:
    """`kind` is a key of `_TYPES`, with `, or null` behind it where the field may be empty."""

    kind: str
    meaning: str
    needed: bool = False  # in every record since the first

    def fault(self, value: Any) -> str | None:
        """Why a value cannot be in this field, or None."""
        kind, _, may_be_null = self.kind.partition(", or ")
        if value is None and may_be_null:
            return None
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "yes or no"):
            return f"is {type(value).__name__}, not {self.kind}"
        if kind == "name" and not re.fullmatch(_NAME, value):  # type: ignore[arg-type]
            return f"is {shown(value)}, which is no name of a file"
        numbers = value if kind == "numbers" else [value] if kind == "number" else []
        if not all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in numbers):  # type: ignore[union-attr]
            return "holds what is no finite number"
        return None


FIELDS: dict[str, Field] = {
    # identity
    "schema": Field("whole", "version of this table", needed=True),
    "config_hash": Field("text", "sha256 of all that determines the result; one record per hash", needed=True),
    "cell_hash": Field("name", "sha256 of all that determines the set", needed=True),
    "set_hash": Field("text", "the same"),
    "method": Field("text", "name of the method", needed=True),
    "method_spec": Field("text", "the method as a command line writes it, defaults left out", needed=True),
    "method_code": Field("text, or null", "16 hex digits of the method's code; null for sets made elsewhere"),
    "method_version": Field("whole", "in the place of method_code in records of older versions"),
    "params": Field("mapping", "all parameters of the method, defaults included", needed=True),
    "distill_backbone": Field("text, or null", "backbone that distilled; null for methods that use none", needed=True),
    "distill_backbone_spec": Field("mapping, or null", "its card: source, revision, sha256, input size, normalisation"),
    "dataset": Field("text", "the dataset as a command line writes it", needed=True),
    "dataset_fingerprint": Field("text", "sha256 of its images, labels and splits", needed=True),
    "named_fingerprints": Field("mapping", "of further backbones and data that parameters of the method name, by spec"),
    "num_classes": Field("whole", "classes of the dataset"),
    "ipc": Field("whole, or null", "images per class; null for methods without a budget", needed=True),
    "distill_seed": Field("whole", "seed of the distillation", needed=True),
    "device": Field("text", "kind of device: cpu or cuda", needed=True),
    "precision": Field("text", "of backbone passes: float32 or bf16"),
    "protocol": Field("text", "name of the protocol", needed=True),
    "protocol_spec": Field("text", "the protocol as a command line writes it", needed=True),
    "protocol_version": Field(
        "whole", "rises where older numbers must not stand beside newer; tables never mix versions", needed=True
    ),
    "protocol_code": Field("text", "16 hex digits of the protocol's code; older records have none"),
    "protocol_params": Field("mapping", "all parameters of the protocol", needed=True),
    "eval_backbone": Field("text, or null", "backbone under the probe; null for protocols that use none", needed=True),
    "eval_backbone_spec": Field("mapping, or null", "its card"),
    "judging_fingerprint": Field("text, or null", "of another dataset or backbone that takes part in judging"),
    "display": Field("mapping", "the suite's own names, by spec"),
    # outcome
    "status": Field("text", "ok, unsupported, oom, timeout, diverged or failed", needed=True),
    "reason": Field("text, or null", "one line, where the status is not ok"),
    "top1": Field(
        "number, or null", "test accuracy, or what the protocol measures, in percent; mean over probe seeds", needed=True
    ),
    "top1_per_seed": Field("numbers", "the same for each probe seed", needed=True),
    "parts": Field("mapping", "accuracies per probe seed under several conditions, such as fractions of labels"),
    "details": Field("mapping", "what else the protocol found: mean recall, worst group, chosen ridge"),
    "notes": Field("list", "what the number has to carry, a line each, by the protocol"),
    "data_notes": Field("list", "the same, by the dataset"),
    "class_order": Field("text, or null", "where class numbers come from: by name, by number or as published"),
    "n_images": Field("whole, or null", "images of the set"),
    "labels_of": Field("text, or null", "whose labels they are, where the method reads none"),
    "set_fingerprint": Field("text, or null", "sha256 of the set's content"),
    # time
    "started": Field("text, or null", "UTC"),
    "finished": Field("text, or null", "UTC"),
    "seconds": Field("mapping", "per phase: load, features, distil, checkpoint, evaluate, warm-up"),
    "features_seconds_cold": Field("number, or null", "seconds for the real features with nothing cached"),
    "features_seconds_warm": Field("number, or null", "seconds to read them from the cache"),
    "features_cached": Field("yes or no, or null", "whether this cell found them in the cache"),
    "steps": Field("whole, or null", "optimisation steps"),
    "steps_per_second": Field("number, or null", "after the first step"),
    "images_per_second": Field("number, or null", "views through the backbone per second of distilling"),
    "chunks": Field("list, or null", "views per backbone pass, every size used"),
    # memory
    "peak_bytes": Field("mapping", "while distilling: GPU allocated and reserved, resident set of the process"),
    "peak_bytes_by_phase": Field("mapping", "the same per phase"),
    "features_peak_bytes": Field("mapping, or null", "the same while real features are computed"),
    "base_bytes": Field("mapping", "before distilling: libraries, weights and data"),
    # circumstances
    "environment": Field("mapping", "commit, versions, processor, GPU, driver, threads, determinism, variables", needed=True),
    "plugin": Field("mapping", "package and version of each plugin that is not built in, by kind"),
    "device_shared": Field("yes or no, or null", "whether another run was seen on the device"),
    "placement": Field(
        "mapping, or null", "of a cluster: node, devices, cells per GPU, attempt, what was lost before; null here"
    ),
    "distill_reused": Field("yes or no", "the set was taken from the run folder"),
    "distill_environment": Field("mapping, or null", "of the process that made it, where that was another one"),
    "taken_sets": Field(
        "list", "sets of other cells that were taken and not made again; their seconds, each named here, count in `seconds`"
    ),
    "resumed_at": Field("list", "steps at which a distillation that was cut short went on"),
    "checkpoint_note": Field("text, or null", "why a checkpoint was not used"),
}


def fault(record: Any) -> str | None:
    """Why this is no record of ddbench, in a few words; None for a sound one. Fields that nobody knows may be there."""
    if not isinstance(record, dict):
        return "is no mapping"
    for name, field in FIELDS.items():
        if name not in record:
            if field.needed:
                return f"lacks {name!r}"
        elif (reason := field.fault(record[name])) is not None:
            return f"{name!r} {reason}"
    if record["status"] == "ok" and record["top1"] is None:
        return "is ok without a 'top1'"
    return None
