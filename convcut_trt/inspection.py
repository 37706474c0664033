"""What a file is: a model, an engine, its manifest, a spec, faces; read without running anything of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import read_json, reading
from convcut_trt.gates.failure import SCHEMA
from convcut_trt.manifest import FAILED, EngineManifest, find_manifest, gates_of
from convcut_trt.ranges import Ranges
from convcut_trt.spec import ModelSpec

_KNOWN = "an .onnx, .engine, manifest, spec or ranges file, or labelled faces"


@reading(InputError)
def describe(path: Path) -> dict[str, Any]:
    """Facts about a file of ours, or about a file or folder of labelled faces.

    Raises:
        InputError: No such file, none of ours, one that cannot be read, or faces that cannot be used.
        ManifestError: An engine whose manifest does not match it.
    """
    if path.is_dir() or path.suffix in (".npz", ".csv"):
        from convcut_trt.datasets import hygiene

        return hygiene.report(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give {_KNOWN}")
    if path.name.endswith(".spec.json"):
        return _spec(ModelSpec.read(path))
    if path.name.endswith(".ranges.json"):
        return _ranges(Ranges.read(path))
    if path.name.endswith(FAILED):
        report = read_json(path, SCHEMA, InputError, "build the engine again")
        gates_of(report)
        return {**report.values, "kind": "report of a failed build"}
    if path.suffix == ".json":
        return _manifest(EngineManifest.read(path))
    if path.suffix == ".engine":
        try:
            return _manifest(EngineManifest.read(find_manifest(path)))
        except ConvcutError as error:
            return {"kind": "engine without a valid manifest", "reason": str(error), **_plan(path)}
    if path.suffix == ".onnx":
        if path.with_suffix(".json").is_file():
            return _manifest(EngineManifest.read(find_manifest(path)))
        return _model(path)
    raise InputError(f"{path} is no file of convcut-trt: give {_KNOWN}")


def _manifest(manifest: EngineManifest) -> dict[str, Any]:
    manifest.check_files()
    values = asdict(manifest)
    spec = values.pop("spec")
    values["path"] = str(values["path"])
    return {"kind": "engine", **values, "classes": spec["classes"]}


def _spec(spec: ModelSpec) -> dict[str, Any]:
    return {
        "kind": "model spec",
        "name": spec.name,
        "classes": list(spec.classes),
        "input": f"uint8 RGB [N, {spec.size}, {spec.size}, 3]",
        "map": list(spec.map_shape),
        "network": dict(spec.network),
        "witnesses": len(spec.witnesses),
        "provenance": dict(spec.provenance),
    }


def _ranges(ranges: Ranges) -> dict[str, Any]:
    return {
        "kind": "ranges for INT8",
        "name": ranges.name,
        "onnx_sha256": ranges.onnx_sha256,
        "method": ranges.method,
        "tensors": len(ranges.tensors),
        "images": len(ranges.images),
        "balance": dict(ranges.balance),
        "stability": dict(ranges.stability),
        "provenance": dict(ranges.provenance),
    }


def _model(path: Path) -> dict[str, Any]:
    from convcut_trt.backends.stored import stored_shares
    from convcut_trt.network import read_onnx

    model = read_onnx(path)
    facts = {
        "kind": "model",
        "ir_version": model.ir_version,
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "nodes": len(model.graph.node),
        "parameters": sum(_count(tensor.dims) for tensor in model.graph.initializer),
        "stored": stored_shares(path),
    }
    spec_path = path.with_suffix(".spec.json")
    if not spec_path.is_file():
        return {**facts, "spec": f"none: {spec_path.name} is missing, so it cannot be built"}
    spec = ModelSpec.read(spec_path)
    spec.check_onnx(path)
    return {**facts, **_spec(spec), "kind": "model"}


def _plan(path: Path) -> dict[str, Any]:
    from convcut_trt.backends import trt_plan

    content = path.read_bytes()
    if not trt_plan.is_plan(content):
        return {"plan": "not a TensorRT-RTX plan that can be read"}
    return {
        "version": trt_plan.version(content),
        "accelerators": str(trt_plan.accelerators(content)),
    }


def _count(sizes: Any) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
