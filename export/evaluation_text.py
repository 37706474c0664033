"""The report of ``evaluate`` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convcut_trt.stats import RESAMPLES
from export.calibration import MINIMUM_ANSWERS

Report = Mapping[str, Any]

# key, text, whether a share
_ROWS = (
    ("accuracy", "accuracy", True),
    ("balanced_accuracy", "balanced accuracy", True),
    ("macro_f1", "macro F1", True),
    ("vote_agreement", "agreement with votes", True),
    ("vote_agreement_of_majority", "  the best possible", True),
    ("nll", "negative log-likelihood", False),
    ("brier", "Brier score (0 ... 2)", False),
    ("ece", "calibration error", True),
)
_SETS = ("official", "clean")


def text(report: Report) -> str:
    """All that the report holds, the classes of the clean set only."""
    parts = [_head(report), _classes(report)]
    if "selective" in report:
        parts.append(_selective(report["selective"]))
    if "robustness" in report:
        parts.append(_robustness(report["robustness"]))
    if "batch_order" in report:
        parts.append(_batch_order(report["batch_order"]))
    return "\n\n".join(parts)


def _head(report: Report) -> str:
    sets = [report[name] for name in _SETS]
    lines = [
        f"{report['model']} on {report['data']}, {report['split']}; temperature {report['temperature']:.3f}"
    ]
    if report["skipped"]:
        lines.append(f"left out, as they cannot be read: {len(report['skipped'])}")
    lines.append(_row("", _SETS))
    lines.append(_row("images", [f"{entry['images']:,}" for entry in sets]))
    for key, name, share in _ROWS:
        lines.append(_row(name, [_figure(entry, key, share) for entry in sets]))
    lines.append(
        _row("  before temperature", [f"{e['before_temperature']['ece']:.2%}" for e in sets])
    )
    lines.append(
        _row("risk-coverage area", [f"{entry['risk_coverage']['area']:.4f}" for entry in sets])
    )
    lines.append(
        f"in brackets 95 % intervals: Wilson's of the accuracy, else {RESAMPLES:,} resamples of the images"
    )
    strict = report["strict"]
    lines.append(
        f"without near duplicates of earlier images, too: {strict['images']:,} images, "
        f"accuracy {_figure(strict, 'accuracy', True)}"
    )
    return "\n".join(lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:24}" + "".join(f"{cell:>26}" for cell in cells)


def _figure(entry: Report, key: str, share: bool) -> str:
    if entry[key] is None:
        return "-"
    value = f"{entry[key]:.2%}" if share else f"{entry[key]:.4f}"
    ends = entry.get(f"{key}_interval")
    if ends is None:
        return value
    low, high = (f"{100 * end:.2f}" if share else f"{end:.4f}" for end in ends)
    return f"{value} [{low}, {high}]"


def _classes(report: Report) -> str:
    classes, clean = report["classes"], report["clean"]
    width = max(6, *(len(name) + 1 for name in classes))
    lines = ["clean set, rows: labels, columns: answers"]
    lines.append(
        f"{'':{width}}{'images':>7}{'recall':>8}" + "".join(f"{name[:8]:>9}" for name in classes)
    )
    for row, name in enumerate(classes):
        count, right = clean["class_images"][row], clean["confusion"][row][row]
        # Under 30 images a recall is not worth a percentage.
        recall = f"{right / count:.1%}" if count >= MINIMUM_ANSWERS else f"{right}/{count}"
        cells = "".join(f"{cell:9}" for cell in clean["confusion"][row])
        lines.append(f"{name:{width}}{count:7}{recall:>8}{cells}")
    return "\n".join(lines)


def _selective(chosen: Report) -> str:
    wanted = f"{chosen['wanted']:.1%}"
    if chosen["threshold"] is None:
        best = chosen["best"]
        reached = f"at best {best:.1%}" if best is not None else "there are too few"
        return (
            f"{wanted} is not reached by withholding answers: of {chosen['validation_images']:,} faces of clean "
            f"validation, no {MINIMUM_ANSWERS} or more of the surest are right that often ({reached})"
        )
    lines = [
        f"answers below a probability of {chosen['threshold']:.4f} withheld: chosen for {wanted} on validation"
    ]
    lines.append(f"{'':24}{'answered':>10}{'coverage':>26}{'accuracy':>26}")
    for name in ("validation", *_SETS):
        entry = chosen[name]
        cells = "".join(f"{_figure(entry, key, True):>26}" for key in ("coverage", "accuracy"))
        lines.append(f"{name:24}{entry['answered']:10,}{cells}")
    return "\n".join(lines)


def _robustness(report: Report) -> str:
    lines = [
        f"accuracy under distortion: {report['images']:,} clean faces, {report['accuracy']:.2%} as they are"
    ]
    lines.append(
        f"{'severity':24}"
        + "".join(f"{number:>8}" for number in range(1, 6))
        + f"{'mean':>8}{'kept':>8}"
    )
    for kind, entry in report["kinds"].items():
        cells = "".join(f"{value:8.1%}" for value in entry["accuracy"])
        lines.append(f"{kind:24}{cells}{entry['mean']:8.1%}{_kept(entry)}")
        lines.append(f"{'':24}" + "".join(f"{value:8g}" for value in entry["severities"]))
    lines.append(f"{'mean':24}{'':40}{report['mean']:8.1%}{_kept(report)}")
    lines += [f"{kind}: {entry['parameter']}" for kind, entry in report["kinds"].items()]
    return "\n".join(lines)


def _kept(entry: Report) -> str:
    return f"{'-':>8}" if entry["retained"] is None else f"{entry['retained']:8.1%}"


def _batch_order(report: Report) -> str:
    verdict = "does not change" if report["independent"] else "CHANGES"
    lines = [
        f"the order of the faces {verdict} the answers ({report['images']:,} clean faces, "
        f"batches of {report['batch']}, against one at a time)"
    ]
    lines.append(f"{'':24}{'accuracy':>26}{'labels changed':>16}{'largest change':>16}")
    for name, entry in report["orders"].items():
        lines.append(
            f"{name:24}{_figure(entry, 'accuracy', True):>26}{entry['changed_labels']:16,}"
            f"{entry['largest_difference']:16.1e}"
        )
    return "\n".join(lines)
