"""Hand-made records: what a run would have stored, without running anything."""

from itertools import product

BACKBONES = ("mini_resnet_dino", "mini_convnet_barlow", "mini_vit_dino", "mini_vit_mae")
_BASE = 300 * 2**20


def record(
    method="clpdd",
    distil="mini_resnet_dino",
    judge: str | None = "mini_vit_dino",
    *,
    ipc=1,
    seed=0,
    top1: float | None = 50.0,
    **changes,
) -> dict:
    """One valid record; `changes` overwrite its fields."""
    name = method.partition("[")[0]
    cell = f"{method}-{distil}-{changes.get('dataset', 'digits')}-{ipc}-{seed}"
    minute = abs(hash(cell)) % 50
    made = {
        "schema": 1,
        "status": "ok",
        "reason": None,
        "method": name,
        "method_spec": method,
        "method_version": 1,
        "params": {},
        "distill_backbone": distil,
        "distill_backbone_spec": None,
        "eval_backbone": judge,
        "eval_backbone_spec": {},
        "dataset": "digits",
        "dataset_fingerprint": "f" * 64,
        "num_classes": 10,
        "ipc": ipc,
        "n_images": 10 * (ipc or 140),
        "distill_seed": seed,
        "protocol": "ridge-probe",
        "protocol_spec": "ridge-probe",
        "protocol_version": 1,
        "protocol_params": {},
        "top1": top1,
        "top1_per_seed": [] if top1 is None else [top1],
        "details": {},
        "seconds": {"load": 1.0, "features": 0.5, "distill": 4.0, "evaluate": 0.25},
        "features_seconds_cold": 0.5,
        "features_seconds_warm": 0.01,
        "features_cached": False,
        "steps": 100,
        "steps_per_second": 25.0,
        "images_per_second": 250.0,
        "peak_bytes": {"gpu_allocated": None, "gpu_reserved": None, "cpu_rss": _BASE + 100 * 2**20},
        "peak_bytes_by_phase": {},
        "base_bytes": {"cpu_rss": _BASE},
        "environment": {"cpu": "Test CPU", "gpu": None, "cores_usable": 2, "threads": 2},
        "device": "cpu",
        "precision": "float32",
        "config_hash": f"{cell}-{judge}-{changes.get('protocol_spec', 'ridge-probe')}",
        "cell_hash": cell,
        "set_hash": cell,
        "set_fingerprint": "0",
        "started": f"2026-01-01T{seed:02d}:{minute:02d}:00+00:00",
        "finished": f"2026-01-01T{seed:02d}:{minute:02d}:00+00:00",
        "distill_reused": False,
    }
    return {**made, **changes}


def grid(methods=("clpdd", "centroids"), backbones=BACKBONES, seeds=(0,), **changes) -> list[dict]:
    """All records of a small run, with `random` and `full`; accuracies follow a rule that tests can recompute."""
    made = []
    for seed, judge in product(seeds, backbones):
        column = backbones.index(judge)
        made.append(record("random", None, judge, seed=seed, top1=30.0 + column + seed, **changes))
        for method, distil in product(methods, backbones):
            top1 = 50.0 + 10 * (distil == judge) + column + seed - 5 * methods.index(method)
            made.append(record(method, distil, judge, seed=seed, top1=top1, **changes))
    made += [record("full", None, judge, ipc=None, top1=90.0 + backbones.index(judge), **changes) for judge in backbones]
    return made
