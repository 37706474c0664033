"""The verb ``report``: everything measured so far as one HTML page, beside what the paper published.

    convcut-trt report --figures figures -o report.html

What the paper and its like claim comes from ``published.json``, with its sources; ours only from results that a
verb wrote. Estimates for devices have a section of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import (
    sections_checks,
    sections_choice,
    sections_confusion,
    sections_devices,
    sections_gpu,
    sections_latency,
    sections_layers,
    sections_paper,
    sections_precision,
    sections_robot,
    sections_roofs,
    sections_soak,
)
from bench.page import Section, bullets, page, section
from bench.results import Bench, Raw, Results, as_written, read_figures, read_results
from convcut_trt.errors import InputError
from convcut_trt.fields import read_json, write_file
from convcut_trt.guard import guarded

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def report(results: Path, figures_folder: Path | None) -> str:
    """The page.

    Args:
        results: Folder with the JSON files that the other verbs wrote.
        figures_folder: What ``convcut-trt explain`` wrote; None leaves the figures out.

    Raises:
        InputError: A file there is damaged.
    """
    published = read_json(HERE / "published.json", 1, InputError, "restore it from the repository")
    if not results.is_dir() and results != RESULTS:
        raise InputError(f"there is no folder {results}: give the one with the results")
    found = read_results(results)
    for file, why in found.left_out.items():
        print(f"{results / file} is left out: {why}", file=sys.stderr)
    drawn = [] if figures_folder is None else read_figures(figures_folder)
    return page(
        "convcut-trt: what was measured, beside what was published",
        sections_paper.comparison(published, found.evaluations),
        sections_paper.ablations(found.ablations),
        sections_paper.figures(drawn),
        *_measured(found),
        *_left_out(found),
    )


def _measured(found: Results) -> Iterator[Section]:
    benches, roofs = found.benches, found.of("roofs")
    yield _of(sections_devices.measured, benches, roofs)
    yield _of(sections_latency.latency, benches)
    yield _of(sections_latency.batches, benches)
    yield _of(sections_choice.comparisons, benches)
    yield _of(sections_precision.precisions, benches)
    yield _of(sections_choice.accuracy, benches)
    yield _of(sections_confusion.confusion, benches)
    yield _of(sections_roofs.roofline, roofs, benches)
    yield _of(sections_layers.layers, found.of("layers"))
    yield sections_devices.estimates()
    yield _of(sections_robot.robot, found.of("robot"))
    yield _of(sections_soak.soak, found.of("soak"))
    yield _of(sections_robot.detectors, found.of("detectors"))
    yield _of(sections_robot.aligned, found.of("aligned"))
    yield _of(sections_robot.spinning, found.of("spinning"))
    yield _of(sections_gpu.kernels, found.of("kernels"))
    yield _of(sections_gpu.tails, found.of("tails"))
    yield _of(sections_checks.gates, found.of("gates"))
    yield _of(sections_checks.engines, found.of("engines"))
    yield _of(sections_checks.openings, found.of("openings"))


def _of(make: Callable[..., Section], *kinds: Sequence[Raw | Bench]) -> Section:
    """A section of files, of one kind or several; where one is damaged, the error names it."""
    files = [file for kind in kinds for file in kind]
    try:
        with as_written(*files):
            return make(*kinds)
    except InputError:
        for file in files:
            with as_written(file):  # which of them it is
                make(*([file] if file in kind else [] for kind in kinds))
        raise


def _left_out(found: Results) -> Iterator[Section]:
    if found.left_out:
        lines = (f"{file}: {why}" for file, why in found.left_out.items())
        yield section("Files that are left out", bullets(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``report``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt report",
        description="Write all results as one HTML page that needs no network.",
        epilog="example: convcut-trt report --figures figures -o report.html",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="JSON files of `bench -o`, `evaluate --json` and `ablate` (default: bench/results of the checkout)",
    )
    parser.add_argument("--figures", type=Path, metavar="DIR", help="what `explain` wrote")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), help="default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args(arguments)
    text = report(options.results, options.figures)
    write_file(options.output, text.encode())
    print(json.dumps({"report": str(options.output)}) if options.json else options.output)
    return 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(guarded(lambda: main(given), as_json="--json" in given))
