"""Trained model -> ``NAME.onnx`` + ``NAME.spec.json`` + witnesses, checked against torch before publishing."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor

import convcut_trt
from convcut_trt import preprocess
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import sha256, write_file
from convcut_trt.optional import load
from convcut_trt.scratch import scratch_folder
from convcut_trt.spec import INPUT, OUTPUTS, ModelSpec, Witness
from export import checkpoint, recipe, witnesses
from export.data import open_faces
from export.deploy import Deployed, deploy, normalised
from export.model import ConvCut
from export.recipe import Recipe

onnxruntime = load("onnxruntime", "ort")

OPSET = 20  # 18 ... 20: JetPack 6 ends at onnxruntime 1.23
IR_VERSION = 10
TOLERANCE = 1e-5  # relative error of the map, per image, against the trained torch model


def trained(path: Path) -> tuple[ConvCut, Recipe, Mapping[str, Any]]:
    """The model of a ``model.safetensors``, in evaluation mode, its recipe, and the note of its run.

    Raises:
        InputError: Not a checkpoint of ours, or one that its recipe does not fit.
    """
    weights, note = checkpoint.read(path)
    plan = recipe.parse(note["recipe"], f"the recipe inside {path}")
    model = plan.build(len(note["classes"]))
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(
            f"the tensors of {path} do not fit the recipe inside it: give the model.safetensors of a run"
        ) from None
    return model.eval(), plan, note


def graph(deployed: Deployed, size: int) -> onnx.ModelProto:
    """Exports the deploy form: uint8 [batch, size, size, 3] in; logits, probabilities, map out."""
    import onnxsim

    names = (INPUT, *OUTPUTS)
    with scratch_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = folder / "model.onnx"
        # The TorchScript exporter: the graph is the same, in 0.3 s; torch.export takes half a minute.
        torch.onnx.export(
            deployed,
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in names},
        )
        model = onnx.load(path)
    model, simplified = onnxsim.simplify(model)
    if not simplified:
        raise ConvcutError(
            "onnxsim's own check of the simplified graph failed: report this network"
        )
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "convcut-trt", convcut_trt.__version__
    onnx.checker.check_model(model, full_check=True)
    return cast(onnx.ModelProto, model)


@torch.no_grad()
def largest_error(model: ConvCut, plan: Recipe, content: bytes, faces: Tensor) -> float:
    """Largest relative error of the ONNX map against the trained torch model, over uint8 faces [N, S, S, 3]."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for part in faces.split(16):  # type: ignore[no-untyped-call]
        reference = model.trunk_map(normalised(part, plan.input)).flatten(1)
        values = torch.from_numpy(session.run(["map"], {INPUT: part.numpy()})[0]).flatten(1)
        error = (values - reference).norm(dim=1) / reference.norm(dim=1)
        # max() would pass over a NaN, and a NaN must fail.
        worst = max(worst, float(torch.nan_to_num(error, nan=torch.inf).max()))
    return worst


@torch.no_grad()
def export(
    checkpoint_path: Path,
    directory: Path,
    *,
    margin: float = 0.0,
    reject: float = 0.0,
    real: Tensor | None = None,
) -> ModelSpec:
    """Writes ``NAME.onnx``, ``NAME.spec.json`` and ``witnesses/``, the spec last.

    Args:
        checkpoint_path: ``model.safetensors`` of a run.
        directory: Where to write.
        margin: Crop margin for the spec.
        reject: Probability below which a robot calls a face "unknown"; `evaluate --selective` finds one.
        real: uint8 RGB faces [N, S, S, 3] to check on beside random and synthetic ones.

    Raises:
        InputError: The checkpoint cannot be used, or its attention may not be exported.
        ConvcutError: The ONNX differs from the trained model by more than ``TOLERANCE``; nothing was written.
    """
    if not 0 <= margin <= 2:
        raise InputError(
            f"margin {margin} is no share of a face's side: give 0 to 2, 0.1 for a tenth"
        )
    if not 0 <= reject <= 1:
        raise InputError(f"reject {reject} is no probability: give 0 to 1, 0 for never")
    model, plan, note = trained(checkpoint_path)
    if plan.network.attention == "batch":
        raise InputError(
            "attention 'batch' makes a face's answer depend on its neighbours and is for reproduction only: "
            "train with 'channel' or 'spatial'"
        )
    size = plan.input.size
    pictures = witnesses.pictures()
    draft = ModelSpec(
        name=plan.name,
        onnx_sha256="",
        classes=tuple(note["classes"]),
        size=size,
        margin=margin,
        reject=reject,
        map_shape=(model.detail.channels, model.detail.sizes[-1], model.detail.sizes[-1]),
        temperature=float(note["temperature"]),
        network=plan.network.model_dump(mode="json", exclude={"weights"}),
        witnesses=(),
    )
    seen = torch.from_numpy(
        np.stack([draft.face(picture.pixels, picture.box) for picture in pictures])
    )
    noise = torch.randint(0, 256, (16, size, size, 3), generator=torch.Generator().manual_seed(0))
    faces = torch.cat([seen, noise.to(torch.uint8), *([] if real is None else [real])])
    deployed, rewrites = deploy(model, plan.input, faces[:16], draft.temperature)
    content = graph(deployed, size).SerializeToString()
    error = largest_error(model, plan, content, faces)
    if not error <= TOLERANCE:
        raise ConvcutError(
            f"the exported map differs from the trained model's by {error:.1e}: nothing was written"
        )
    answers = model(normalised(seen, plan.input)).div(draft.temperature).softmax(dim=1)
    checkpoint.make_folder(directory)
    entries = []
    for picture, row in zip(pictures, answers.tolist(), strict=True):
        file, digest = witnesses.write(directory, picture)
        entries.append(Witness(file, digest, picture.box, tuple(round(value, 7) for value in row)))
    spec = replace(
        draft,
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        witnesses=tuple(entries),
        provenance={
            "convcut_trt": convcut_trt.__version__,
            "torch": torch.__version__,
            "checkpoint_sha256": sha256(checkpoint_path),
            "recipe": note["recipe"],
            "training": {key: note["progress"][key] for key in ("best_epoch", "best_accuracy")},
            "rewrites": [asdict(rewrite) for rewrite in rewrites],
            "error_against_torch": error,
            "checked_faces": len(faces),
        },
    )
    write_file(directory / f"{plan.name}.onnx", content)
    spec.write(directory / f"{plan.name}.spec.json")
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``export``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt export",
        description="Write a trained model as ONNX with its spec and witnesses.",
        epilog="example: convcut-trt export runs/conv-cut-mini/model.safetensors -o models",
    )
    parser.add_argument("checkpoint", type=Path, help="model.safetensors of a run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write into")
    parser.add_argument(
        "--data", help="real faces to check on as well (64 of its validation split)"
    )
    parser.add_argument("--margin", type=float, default=0.0, help="crop margin (default 0)")
    parser.add_argument(
        "--reject",
        type=float,
        default=0.0,
        help="probability below which a robot calls a face unknown; `evaluate --selective` finds one (default 0)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args(arguments)
    real = None
    if options.data:
        dataset = open_faces(options.data)
        plan = trained(options.checkpoint)[1]
        rows = dataset.subset("validation")[:64]
        if not len(rows):
            raise InputError(
                f"{dataset.name} has no validation split to check on: leave out --data"
            )
        real = torch.from_numpy(
            np.stack([preprocess.resize(dataset.image(int(row)), plan.input.size) for row in rows])
        )
    spec = export(
        options.checkpoint,
        options.output,
        margin=options.margin,
        reject=options.reject,
        real=real,
    )
    provenance = spec.provenance
    report = {
        "onnx": str(options.output / f"{spec.name}.onnx"),
        "spec": str(options.output / f"{spec.name}.spec.json"),
        "rewrites": provenance["rewrites"],
        "error_against_torch": provenance["error_against_torch"],
        "checked_faces": provenance["checked_faces"],
    }
    if options.json:
        print(json.dumps(report))
        return 0
    for rewrite in provenance["rewrites"]:
        print(f"  {rewrite['name']:28} largest error {rewrite['error']:.1e}", file=sys.stderr)
    print(
        f"{report['onnx']}: map within {provenance['error_against_torch']:.1e} of torch "
        f"on {provenance['checked_faces']} faces"
    )
    return 0
