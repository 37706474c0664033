"""Our JSON files: spec, manifest, ranges, results, and what ``inspect`` and ``load`` make of them."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from convcut_trt import cli, engine
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import canonical
from convcut_trt.home import ZOO
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring import results
from convcut_trt.ranges import Ranges
from convcut_trt.spec import ModelSpec
from tests.bench.report_results import usual
from tests.fuzz.fuzzing import Target
from tests.fuzz.mutations import spoiled
from tests.fuzz.trees import json_text, spoiled_tree

_SPEC = json.loads((ZOO / "conv-cut-mini.spec.json").read_text("utf-8"))
_SPEC["witnesses"] = _SPEC["witnesses"][:1]
_RANGES = {
    "schema": 1,
    "name": "tiny",
    "onnx_sha256": "0" * 64,
    "method": "percentile",
    "tensors": {"/fc1": [-1.5, 6.25], "/fc2": [-0.17, 3.0]},
    "images": ["a" * 64, "b" * 64, "c" * 64],
    "balance": {"happiness": 2, "sadness": 1, "fear": 0},
    "stability": {"tensors": 2, "differing": 0},
    "provenance": {"seed": 7},
}
_ENGINE, _STEM = b"no engine at all", "conv-cut-mini.fp16.onnxruntime"
_GATES = [
    {"name": "witnesses", "value": 1e-3, "budget": 3e-3, "verdict": "pass", "detail": "15 of 15"},
    {"name": "accuracy", "value": None, "budget": None, "verdict": "not run", "detail": ""},
]
_MANIFEST = {
    "schema": 2,
    "name": "conv-cut-mini",
    "precision": {
        "requested": "auto",
        "asked": "fp16",
        "stored": {"fp16": 1.0},
        "computed": {"fp32": 1.0},
        "text": "fp16 stored, fp32 computed",
    },
    "flavour": "onnxruntime",
    "versions": {"builder": "1.23.2", "convcut_trt": "0.1.0"},
    "target": "",
    "compute_capability": "",
    "files": {"engine": f"{_STEM}.onnx", "typed_onnx": f"{_STEM}.onnx"},
    "sha256": {
        **dict.fromkeys(("engine", "typed_onnx"), hashlib.sha256(_ENGINE).hexdigest()),
        "onnx": "0" * 64,
        "ranges": None,
    },
    "outputs": ["logits", "probabilities", "map"],
    "batch": [1, 4, 16],
    "placement": "",
    "mlp": "conv",
    "tail": "native",
    "operations": None,
    "budgets": {"witnesses": 3e-3},
    "gates": _GATES,
    "verdicts": ["fp16: kept"],
    "judged_on": "256 bundled pictures",
    "verified_on": "onnxruntime-cpu (x86_64)",
    "build": {"seconds": 1.5, "peak_memory": None},
    "date": "2025-01-01T00:00:00+00:00",
    "spec": _SPEC,
}


def command(*arguments: str | Path) -> None:
    """Runs the command line: its exit code must be 0, 1 or 2, and nothing it says a traceback.

    Raises:
        InputError: The code is not 0; with what was said, so that it counts as refused.
    """
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")  # strict, as a pipe's
    said = io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else 2
        out.flush()
    if code not in (0, 1, 2) or "Traceback" in said.getvalue() or (code and not said.getvalue()):
        raise RuntimeError(f"exit code {code}, and said:\n{said.getvalue()}")
    if code:
        raise InputError(said.getvalue())


def inspect(path: Path) -> None:
    """``inspect``, for people or as JSON: making the parser of arguments takes most of the time."""
    command("inspect", path, *(["--json"] if path.stat().st_size % 2 else []))


def read_spec(content: bytes, folder: Path) -> None:
    """As ``find_model`` and ``build`` do: read, written again, its witnesses opened."""
    path = folder / "a.spec.json"
    path.write_bytes(content)
    spec = ModelSpec.read(path)
    spec.write(folder / "copy.spec.json")
    with suppress(ConvcutError):
        spec.witness_faces(ZOO)
    inspect(path)


def read_manifest(content: bytes, folder: Path) -> None:
    """As ``inspect``, ``bench`` and ``load`` do; the seal is put right, or nearly nothing would be read."""
    path = folder / f"{_STEM}.json"
    with suppress(ValueError, RecursionError):
        values = json.loads(content)
        if isinstance(values, dict):
            values["manifest_sha256"] = hashlib.sha256(canonical(values)).hexdigest()
            content = json.dumps(values).encode()
    path.write_bytes(content)
    path.with_suffix(".onnx").write_bytes(_ENGINE)
    manifest = EngineManifest.read(path)
    manifest.write(folder / "copy.json")
    results.subject_of(manifest)
    inspect(path)
    with suppress(ConvcutError):
        engine.load(folder / path.name)


def read_ranges(content: bytes, folder: Path) -> None:
    """As ``build`` does: read, asked, and written again."""
    path = folder / "tiny.ranges.json"
    path.write_bytes(content)
    ranges = Ranges.read(path)
    for name in ranges.tensors:
        ranges.amax(name)
    ranges.write(folder / "copy.ranges.json")
    inspect(path)


def read_results(content: bytes, folder: Path) -> None:
    """As reports do: read and written again."""
    path = folder / "result.json"
    path.write_bytes(content)
    found = results.read(path)
    results.write(folder / "copy.result.json", found)


def read_failure(content: bytes, folder: Path) -> None:
    """The report of a failed build, by ``inspect``."""
    path = folder / "tiny.failed.json"
    path.write_bytes(content)
    inspect(path)


def read_plan(content: bytes, folder: Path) -> None:
    """A plan of TensorRT-RTX, by ``inspect``, and its operations, as ``build`` reads them."""
    from convcut_trt.backends import trt_plan

    path = folder / "plan.engine"
    path.write_bytes(content)
    trt_plan.as_layers(trt_plan.operations(content) or [])
    inspect(path)


_PLAN = b"""vtrt%s\1\7\1\x74vtrt accelerators={ sm86 sm89 }
descriptors {
  tensor={ const_payload_size=4 name="w" type=half }
  tensor={ kind=x name="a" type=half }
}
main {
  corrltn={ name="conv" input={"a" "w"} output={"b"} [ONNX Layer: fc1] }
}
shape_main {
}
""" % bytes(20)


def _trimmed(value: Any) -> Any:
    """The same with two entries in every list at most: as good a seed, and sooner spoiled."""
    if isinstance(value, dict):
        return {name: _trimmed(inner) for name, inner in value.items()}
    return [_trimmed(inner) for inner in value[:2]] if isinstance(value, list | tuple) else value


TARGETS = {
    "plan": Target(spoiled([_PLAN]), read_plan),
    "spec": Target(spoiled_tree([_SPEC], json_text), read_spec),
    "manifest": Target(spoiled_tree([_MANIFEST], json_text), read_manifest),
    "ranges": Target(spoiled_tree([_RANGES], json_text), read_ranges),
    "results": Target(spoiled_tree([_trimmed(results.to_json(usual()))], json_text), read_results),
    "failed build": Target(
        spoiled_tree([{"schema": 1, "cause": "a scale", "gates": _GATES}], json_text), read_failure
    ),
}
