"""Which TensorRT-RTX engines build: every form of a model, for several GPUs, on a machine that needs none.

    python -m bench.engines conv-cut-mini models/mine.onnx --target sm86 sm89

Only building is tried, no gate is run. ``engines.json`` keeps what former runs built and this one does not build
anew, so that targets, batches and models may come one after the other; ``engines.md`` shows all of it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
import pydantic

import convcut_trt
from convcut_trt import arguments, backends, devices
from convcut_trt.backends.base import Backend, BuildOptions
from convcut_trt.devices import Device
from convcut_trt.errors import BuildError, InputError
from convcut_trt.fields import read_json, write_file, write_json
from convcut_trt.gates.proof import prove
from convcut_trt.guard import guarded
from convcut_trt.home import Model, find_model
from convcut_trt.network import read_model
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.precision.typed import Form, Typed, form_of, to_typed
from convcut_trt.progress import Progress
from convcut_trt.ranges import Ranges
from convcut_trt.request import DEFAULT_BATCH

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"
NAME = "engines.json"
TARGETS = ("sm86", "sm89", "sm120")
BATCHES = (DEFAULT_BATCH, (1, 1, 1))
FORMS = (
    *(form_of(precision, False, None, None) for precision in ("fp32", "fp16", "bf16")),
    form_of("fp16", False, None, "linear"),
    *(form_of("int8", False, placement, None) for placement in PLACEMENTS),
    form_of("int8", False, "pw", "linear"),
)
_BACKEND = "tensorrt-rtx"
_NONE = "–"
_LINE = 200  # characters of a refusal
_FIX = "move it away, or choose another folder with -o"

Batch = tuple[int, int, int]


@dataclass(frozen=True)
class Row:
    """One engine, or why there is none.

    Attributes:
        form: For people, for example ``int8 (pw), linear``.
        sm: What it is for, for example ``sm_86``.
        batch: Smallest, usual and largest.
        refused: Why it was not built, in one line; empty where it was.
        megabytes: Of the engine, in 1e6 bytes.
        operations: Device operations in it, None where they are not readable.
        seconds: Parsing and building.
        computed: Share of the multiply-adds in the asked type, in the network that the builder is held to; of what
            the placement quantises in INT8.
        computed_in_plan: The same of the engine's operations, None where they are not readable.
    """

    form: str
    sm: str
    batch: Batch
    refused: str = ""
    megabytes: float | None = None
    operations: int | None = None
    seconds: float | None = None
    computed: float | None = None
    computed_in_plan: float | None = None

    @property
    def column(self) -> str:
        """Where the table has it, for example ``sm_86, batch 1:4:16``."""
        low, _, high = self.batch
        return f"{self.sm}, batch {low if low == high else ':'.join(map(str, self.batch))}"


@dataclass(frozen=True)
class Measured:
    """All engines of one model.

    Attributes:
        onnx_sha256: Of ``NAME.onnx``.
        pixels: Side of its input.
        weights: How many it has.
        trained: False where its spec says that it never was; None where the spec says nothing.
        versions: Of the builder and of what prepares for it.
        machine: What they were built on.
        rows: The engines.
    """

    onnx_sha256: str
    pixels: int
    weights: int
    trained: bool | None
    versions: Mapping[str, str]
    machine: Mapping[str, str | int | None]
    rows: tuple[Row, ...]


_MODELS = pydantic.TypeAdapter(dict[str, Measured])


def measure(
    model: Model, targets: Sequence[Device], batches: Sequence[Batch], step: Callable[[str], None]
) -> Measured:
    """Builds every form of a model, for every target and batch.

    Args:
        model: INT8 takes the ranges beside it; where there are none its rows say so.
        targets: One for each compute capability.
        batches: Smallest, usual and largest of each.
        step: Called before each engine with what it is.

    Raises:
        InputError: The model or its ranges are damaged, or the builder has no engines for a target or batch.
        BackendMissing: TensorRT-RTX is not installed.
    """
    backend = backends.get(_BACKEND)
    versions = {
        "convcut-trt": convcut_trt.__version__,
        **backend.versions(),
        "onnx": onnx.__version__,
        "python": platform.python_version(),
    }
    original, spec = read_model(model), model.spec
    training = spec.provenance.get("training")
    best = training.get("best_accuracy") if isinstance(training, dict) else None
    path = model.onnx.with_suffix(".ranges.json")
    ranges = Ranges.read(path) if path.is_file() else None
    if ranges is not None:
        ranges.check(spec.onnx_sha256)
    cells = list(itertools.product(batches, targets))
    return Measured(
        onnx_sha256=spec.onnx_sha256,
        pixels=spec.size,
        weights=sum(math.prod(tensor.dims) for tensor in original.graph.initializer),
        trained=None if best is None else best != 0,
        versions=versions,
        machine={"processor": platform.machine(), "cores": os.cpu_count()},
        rows=tuple(
            row
            for form in FORMS
            for row in _rows(backend, spec.name, original, form, ranges, cells, step)
        ),
    )


def joined(former: Measured | None, new: Measured) -> Measured:
    """The rows of a new run, behind those of a former one that it did not build anew.

    A former run of another ONNX file, with other versions or on another machine, falls away.
    """
    if former is None or replace(former, rows=()) != replace(new, rows=()):
        return new
    anew = {(row.form, row.column) for row in new.rows}
    kept = (row for row in former.rows if (row.form, row.column) not in anew)
    return replace(new, rows=(*kept, *new.rows))


def _rows(
    backend: Backend,
    name: str,
    original: onnx.ModelProto,
    form: Form,
    ranges: Ranges | None,
    cells: Sequence[tuple[Batch, Device]],
    step: Callable[[str], None],
) -> Iterator[Row]:
    text = f"{form}, linear" if form.mlp == "linear" else str(form)
    with tempfile.TemporaryDirectory(prefix="convcut-") as folder:
        path = Path(folder).resolve() / f"{name}.onnx"
        typed, refused = None, ""
        try:
            typed = to_typed(original, form, ranges)
            path.write_bytes(typed.model.SerializeToString())
        except InputError as error:
            refused = _one_line(error, path.parent)
        for batch, device in cells:
            row = Row(text, device.sm, batch, refused)
            step(f"{name} {text}, {row.column}")
            yield row if typed is None else _built(backend, typed, path, device, row)


def _built(backend: Backend, typed: Typed, path: Path, device: Device, row: Row) -> Row:
    try:
        engine = backend.build(path, BuildOptions(batch=row.batch, targets=(device,)))
    except BuildError as error:
        return replace(row, refused=_one_line(error, path.parent))
    plan = None if engine.plan is None else prove(typed, path, engine.plan).computed_asked
    return replace(
        row,
        megabytes=round(len(engine.engine) / 1e6, 3),
        operations=engine.operations,
        seconds=round(engine.seconds, 2),
        computed=round(prove(typed, path, engine.layers).computed_asked, 4),
        computed_in_plan=None if plan is None else round(plan, 4),
    )


def _one_line(error: Exception, folder: Path) -> str:
    return textwrap.shorten(str(error).replace(f"{folder}{os.sep}", ""), _LINE, placeholder=" ...")


def markdown(models: Mapping[str, Measured]) -> str:
    """The tables of all models, and what they do not say."""
    parts = [
        "# TensorRT-RTX engines",
        "Built ahead of time, without a GPU, by `python -m bench.engines`. No gate was run and no engine has run: "
        "building is not judging. A cell is the engine's size in MB / its device operations. Operation counts are "
        "a static proxy, not time: fewer operations need not be faster. The MLPs are 1x1 convolutions, in `linear` "
        "matrix products; beside INT8 the trunk is FP16. `computed as asked` is the share of the "
        "multiply-adds in the form's type, in INT8 of those that the placement quantises: in the network that the "
        "builder is held to / in the operations of the engine, the least of the row. `seconds` are those of the "
        "slowest build of the row.",
        *(part for name, measured in models.items() for part in _model(name, measured)),
    ]
    return "\n\n".join(parts) + "\n"


def _model(name: str, measured: Measured) -> Iterator[str]:
    versions = ", ".join(f"{key} {value}" for key, value in measured.versions.items())
    untrained = ", untrained: random weights" if measured.trained is False else ""
    yield f"## {name}"
    yield (
        f"{measured.pixels} px, {measured.weights / 1e6:.1f} M weights{untrained}, ONNX "
        f"`{measured.onnx_sha256[:12]}`. Built with {versions}, on {measured.machine['cores']} cores of "
        f"{measured.machine['processor']}."
    )
    columns = list(dict.fromkeys(row.column for row in measured.rows))
    lines = [("form", *columns, "computed as asked", "seconds"), ("---",) * (len(columns) + 3)]
    refusals = []
    for form, rows in _by_form(measured.rows).items():
        cells = {row.column: _cell(row) for row in rows}
        built = [row for row in rows if not row.refused]
        shares = f"{_least(row.computed for row in built)} / {_least(row.computed_in_plan for row in built)}"
        slowest = max((row.seconds or 0 for row in built), default=None)
        seconds = _NONE if slowest is None else f"{slowest:.1f}"
        lines.append((form, *(cells.get(column, _NONE) for column in columns), shares, seconds))
        for reason in dict.fromkeys(row.refused for row in rows if row.refused):
            where = [row.column for row in rows if row.refused == reason]
            places = "" if len(where) == len(rows) else f" for {'; '.join(where)}"
            refusals.append(f"- {form} is refused{places}: {reason}")
    yield "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if refusals:
        yield "\n".join(refusals)


def _by_form(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.form, []).append(row)
    return found


def _cell(row: Row) -> str:
    if row.refused or row.megabytes is None:
        return "refused"
    return f"{row.megabytes:.1f} / {_NONE if row.operations is None else row.operations}"


def _least(shares: Iterable[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{min(known):.1%}" if known else _NONE


def read(path: Path) -> dict[str, Measured]:
    """The models of an ``engines.json``; none where there is no file.

    Raises:
        InputError: It is damaged, or of another schema.
    """
    if not path.is_file():
        return {}
    models = read_json(path, SCHEMA, InputError, _FIX).get("models", dict)
    try:
        return _MODELS.validate_python(models)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise InputError(f"{path}: {where}: {problem['msg']}; {_FIX}") from None


def main(given: Sequence[str] | None = None) -> int:
    """Builds, and writes both files after each model."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.engines",
        description="Build every form of models for several GPUs; write which build, and how large they are.",
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a zoo name, an .onnx file, or a folder"
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=TARGETS,
        metavar="DEVICE",
        help=f"one for each compute capability (default: {' '.join(TARGETS)})",
    )
    parser.add_argument(
        "--batch",
        nargs="+",
        type=arguments.batch,
        default=BATCHES,
        metavar="MIN:OPT:MAX",
        help="profiles, one number fixes it (default: 1:4:16 1)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results"
    )
    options = parser.parse_args(given)
    # Two names may mean one capability, and an engine is for a capability.
    targets = {device.sm: device for device in map(devices.find, options.target)}
    found = [find_model(model) for model in options.models]
    if not options.output.is_dir():
        raise InputError(f"the folder {options.output} does not exist: make it, or choose another")
    path = options.output / NAME
    models = read(path)
    total = len(found) * len(FORMS) * len(options.batch) * len(targets)
    done = itertools.count()
    with Progress() as progress:
        for model in found:
            measured = measure(
                model,
                list(targets.values()),
                options.batch,
                lambda engine: progress(engine, next(done), total),
            )
            models[model.spec.name] = joined(models.get(model.spec.name), measured)
            values = {name: asdict(measured) for name, measured in models.items()}
            write_json(path, {"schema": SCHEMA, "models": values})
            write_file(path.with_suffix(".md"), markdown(models).encode())
    print(path.with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
