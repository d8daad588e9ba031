"""The summary table: every method under every protocol in one row, beside the seconds and memory of distilling."""

import dataclasses

from .accuracy import accuracy_table, measured_by, own_and_transfer, recall
from .conditions import conditions
from .rows import grown_rss, nested, one_per_set, place_of, rows_of
from .value import Frame, Table, Value, mean_value, plain_value


def summary(group: Frame) -> Table:
    """One row per method, its mean over distil backbones: accuracy per protocol, seconds and memory of distilling one set.

    Under a protocol with eval backbones `own` is the mean over the backbones that distilled, each judging its own sets, and
    `transfer` that over all the others. Sets of no backbone are judged on each, which counts as `own`.
    """
    judges = {
        str(name): sorted(part["eval_backbone"].dropna().unique()) for name, part in group.groupby("protocol_spec", sort=False)
    }
    columns = [text for name, found in judges.items() for text in ((f"{name} own", f"{name} transfer") if found else (name,))]
    on_gpu = nested(group["peak_bytes"], "gpu_allocated").notna().any()
    rows = [(label, _accuracies(part, judges) + _costs(part, on_gpu)) for label, part in _one_per_method(group)]
    what = ", ".join(dict.fromkeys(measured_by(name) for name in group["protocol"].unique()))
    caption = [
        f"{what} %, mean over backbones; own: where it was distilled (sets of no backbone: on each), transfer: elsewhere",
        "distil s: mean seconds of distilling a set; peak MiB: "
        + ("GPU memory allocated meanwhile" if on_gpu else "resident set meanwhile, above that before"),
        *(f"{name}: {line}" for name, part in group.groupby("protocol_spec", sort=False) for line in recall(part, _RECALL)),
        *conditions(group, timed=True),
    ]
    return accuracy_table(f"Summary: {place_of(group)}", caption, [*columns, "distil s", "peak MiB"], rows, group, means=True)


_RECALL = 1.0  # points between top-1 and mean per-class recall that are worth a word here


def _one_per_method(group: Frame) -> list[tuple[tuple[str, str], Frame]]:
    """The last row of each method in reading order, which is its mean where there are several."""
    last = {label[0]: (label, part) for label, part in rows_of(group)}
    return list(last.values())


def _accuracies(rows: Frame, judges: dict[str, list[str]]) -> list[Value]:
    values: list[Value] = []
    distil = rows["distill_backbone"].dropna().unique()  # of all protocols: each owes the others its pairs
    for name, backbones in judges.items():
        part = rows[rows["protocol_spec"] == name]
        if not backbones:
            values.append(mean_value(part, max(1, len(distil))))
        elif len(distil):
            values += own_and_transfer(part, distil, backbones)
        else:
            values += [mean_value(part, len(backbones)), Value()]
    return values


def _costs(rows: Frame, on_gpu: bool) -> list[Value]:
    sets = one_per_set(rows)
    peak = (nested(sets["peak_bytes"], "gpu_allocated") if on_gpu else grown_rss(sets)) / 2**20
    # whether a set of it failed shows in the accuracies
    return [
        dataclasses.replace(plain_value(numbers, sets), status=None) for numbers in (nested(sets["seconds"], "distill"), peak)
    ]
