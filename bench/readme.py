"""The tables of the README that are made from results, between marks:

    <!-- results: what-ran-where -->
    <!-- end -->

``python -m bench.readme`` writes them anew, and a test asks for nothing else in them. Dates and devices are those
of the results in ``bench/results``; what no result shows stands as never done.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.report import RESULTS
from bench.results import Bench, Results, as_written, read_results
from bench.sections_choice import interval
from convcut_trt.errors import InputError
from convcut_trt.fields import write_file
from convcut_trt.guard import guarded
from convcut_trt.measuring.results import Compared, Result, Subject

README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_ALWAYS = ("onnxruntime", "tensorrt-rtx", "tensorrt")  # the others where there are results
_KERNELS = "CUDA kernels (tail, preprocessing)"
_EAGER = "torch fp32"
_THREADS = re.compile(r"\bon \d+ threads?\b")


def what_ran_where(found: Results) -> str:
    """Flavour by flavour what was built, loaded, run and measured, and where."""
    lines: list[tuple[str, ...]] = [("flavour", "built", "loaded", "ran", "measured")]
    flavours = dict.fromkeys((*_ALWAYS, *(subject.flavour for _, subject in _engines(found))))
    lines += [_flavour(found, flavour) for flavour in flavours]
    on_gpus = _listed(
        f"{raw.values['device']}, {part['date'][:10]}"
        for raw in found.of("kernels")
        for part in raw.values["parts"].values()
    )
    done = f"yes: {on_gpus}" if on_gpus else "never"
    measured = done if on_gpus else "no"
    lines.append((_KERNELS, "compiled, see below", done, done, measured))
    return _table(lines)


def _engines(found: Results) -> list[tuple[Result, Subject]]:
    return [
        (bench.result, one.subject)
        for bench in found.benches
        for one in bench.result.measured
        if one.subject.kind == "engine"
    ]


def _flavour(found: Results, flavour: str) -> tuple[str, ...]:
    own = [entry for entry in _engines(found) if entry[1].flavour == flavour]
    built = {subject.asked for _, subject in own} | _judged(found, flavour) | _forms(found, flavour)
    where = [f"{result.machine.device}, {result.date[:10]}" for result, _ in own]
    tails = _with_tails(found, flavour)
    built |= {"fp16"} if tails else set()
    measured = [*where, *tails, *_recorded(found, flavour)]
    ran = measured or (["a CPU, at the gates"] if _judged(found, flavour) else [])
    precisions = ", ".join(name for name in _PRECISIONS if name in built)
    targets = _targets(found, flavour)
    built_text = f"yes: {precisions}{f' for {targets}' if targets else ''}" if built else "never"
    return (
        f"`{flavour}`{_version(found, flavour)}",
        built_text,
        "yes" if ran else "never",
        f"yes: {_listed(ran)}" if ran else "never",
        f"yes: {_listed(measured)}" if measured else "no",
    )


def _judged(found: Results, flavour: str) -> set[str]:
    """Precisions whose engines ran at the gates of ``bench.gate_table``: only onnxruntime's."""
    if flavour != "onnxruntime":
        return set()
    return {
        precision
        for raw in found.of("gates")
        for precision, of in raw.values["honest"]["precisions"].items()
        if any(form["computed_by"].startswith(flavour) for form in of["forms"])
    }


def _forms(found: Results, flavour: str) -> set[str]:
    """Precisions that ``bench.engines`` built: only TensorRT-RTX's."""
    rows = _rows(found) if flavour == "tensorrt-rtx" else []
    return {str(row["form"]).partition(" ")[0].strip(",") for row in rows if not row["refused"]}


def _targets(found: Results, flavour: str) -> str:
    rows = _rows(found) if flavour == "tensorrt-rtx" else []
    return _listed(str(row["sm"]) for row in rows if not row["refused"])


def _rows(found: Results) -> list[Mapping[str, object]]:
    models = [m for raw in found.of("engines") for m in raw.values["models"].values()]
    return [row for model in models for row in model["rows"]]


def _with_tails(found: Results, flavour: str) -> list[str]:
    """Where ``bench.tails`` timed the FP16 engine."""
    return [
        f"{raw.values['device']}, {part['date'][:10]}"
        for raw in found.of("tails")
        for backend, part in raw.values["parts"].items()
        if backend == flavour and part["outcome"].startswith("runs")
    ]


def _recorded(found: Results, flavour: str) -> list[str]:
    """Where ``bench.openings`` recorded: onnxruntime's sessions."""
    if flavour != "onnxruntime":
        return []
    recorded = [raw.values for raw in found.of("openings")]
    return [f"{values['machine']['device']}, {values['date'][:10]}" for values in recorded]


def _version(found: Results, flavour: str) -> str:
    """Of the backend's library, where the results name one."""
    key = flavour.replace("-", "_")
    versions = [bench.result.versions for bench in found.benches]
    versions += [raw.values["versions"] for raw in found.of("gates")]
    versions += [
        m["versions"] for raw in found.of("engines") for m in raw.values["models"].values()
    ]
    known = _listed(str(v[name]) for v in versions for name in (flavour, key) if name in v)
    own = any(subject.flavour == flavour for _, subject in _engines(found))
    used = own or _judged(found, flavour) or _forms(found, flavour)
    return f" {known}" if known and used else ""


def ratios(found: Results) -> str:
    """Comparisons in the same precision, and our fastest INT8 engine of each network beside eager torch.

    The report has all. Each machine has a table, below what holds for all of its rows.
    """
    rows: dict[str, list[tuple[str, ...]]] = {}
    dates: dict[str, list[str]] = {}
    for bench, pair in (*_same_bits(found), *_over_torch(found)):
        where = _where(bench.result)
        dates.setdefault(where, []).append(bench.result.date[:10])
        rows.setdefault(where, []).append(
            (
                *(f"`{pair.name}`", f"`{pair.other}`", str(pair.batch)),
                f"{pair.openings} x {pair.seconds:g} s",
                *(f"{pair.ratio:.2f}x ({interval(pair)})", pair.verdict),
            )
        )
    if not rows:
        return "No comparison is kept in `bench/results` yet."
    head = ("engine", "against", "batch", "openings", "times as fast (95 %)", "verdict")
    parts = []
    for where, lines in rows.items():
        first, last = min(dates[where]), max(dates[where])
        when = first if first == last else f"{first} to {last}"
        parts += [f"{where}, {when}:", _table([head, *lines])]
    return "\n\n".join(parts)


def _same_bits(found: Results) -> Iterator[tuple[Bench, Compared]]:
    for bench in found.benches:
        subjects = _subjects(bench)
        for pair in bench.result.compared:
            both = [subjects[name].asked for name in (pair.name, pair.other) if name in subjects]
            if len(both) == 2 and both[0] == both[1]:
                yield bench, pair


def _over_torch(found: Results) -> Iterable[tuple[Bench, Compared]]:
    """Of each network on each machine the INT8 engine that is most times as fast as torch in FP32."""
    best: dict[tuple[str, str], tuple[Bench, Compared]] = {}
    for bench in found.benches:
        subjects = _subjects(bench)
        for pair in bench.result.compared:
            own = subjects.get(pair.name)
            if own is None or (own.kind, own.asked, pair.other) != ("engine", "int8", _EAGER):
                continue
            key = own.model, _where(bench.result)
            if key not in best or pair.ratio > best[key][1].ratio:
                best[key] = bench, pair
    return best.values()


def _subjects(bench: Bench) -> dict[str, Subject]:
    return {one.subject.name: one.subject for one in bench.result.measured}


def _where(result: Result) -> str:
    """The machine, and on how many threads all of them computed: as many as the peers, which say it."""
    parts = [result.machine.device]
    if result.machine.gpu is None:
        parts.append(f"{result.machine.cores} cores")
    told = (_THREADS.search(one.subject.precision) for one in result.measured)
    parts += dict.fromkeys(f"{found[0]} each" for found in told if found)
    return ", ".join(parts)


TABLES: Mapping[str, Callable[[Results], str]] = {
    "what-ran-where": what_ran_where,
    "ratios": ratios,
}


def filled(text: str, found: Results) -> str:
    """A text with every marked table made anew.

    Raises:
        InputError: A table of that name is not known, or a mark has no end.
    """
    if text.count("<!-- results:") != len(_BLOCK.findall(text)):
        raise InputError("a line `<!-- results: NAME -->` has no `<!-- end -->` after it: add one")

    def table(block: re.Match[str]) -> str:
        begin, name, _, end = block.groups()
        if name not in TABLES:
            raise InputError(f"there is no table {name!r}: choose from {', '.join(TABLES)}")
        with as_written(*(raw for files in found.measured.values() for raw in files)):
            return f"{begin}\n{TABLES[name](found)}\n\n{end}"

    return _BLOCK.sub(table, text)


def _listed(names: Iterable[str]) -> str:
    """Each once: ``a``, ``a and b``, ``a, b and c``."""
    once = list(dict.fromkeys(names))
    return " and ".join(filter(None, (", ".join(once[:-1]), *once[-1:])))


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def main(given: Sequence[str] | None = None) -> int:
    """Writes the README's tables anew."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.readme",
        description="Make the README's tables from the results.",
        epilog="example: python -m bench.readme",
    )
    parser.add_argument("file", type=Path, nargs="?", default=README, help="default: the README")
    options = parser.parse_args(given)
    try:
        text = options.file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{options.file} cannot be read ({error}): name a text file") from None
    write_file(options.file, filled(text, read_results(RESULTS)).encode())
    print(options.file)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
