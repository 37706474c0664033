"""The paper's figures for a model of ours, as SVG: class distribution, confusion, t-SNE, Grad-CAM.

    convcut-trt explain runs/conv-cut-mini/model.safetensors --data ferplus.npz -o figures

Faces are drawn from nowhere but the renderer and the public domain, unless the user names a folder of their own
with ``--faces``; those of FERPlus and RAF-DB never are. Of ``--data`` only statistics are drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix
from torch import Tensor

from convcut_trt.datasets import SPLITS, Dataset
from convcut_trt.errors import InputError
from convcut_trt.fields import sha256, write_file
from convcut_trt.preprocess import resize
from convcut_trt.progress import Progress
from export import embedding, figures
from export.checkpoint import make_folder
from export.classifier import Classifier, accelerated, classifier, predict
from export.data import DATA_HELP, normalise, open_faces
from export.grad_cam import grad_cam, spread
from export.model import ConvCut
from export.portraits import SYNTHETIC, Pixels, portraits
from export.recipe import Recipe
from export.to_onnx import trained

SCHEMA = 1
MOST = 100  # faces of a class in the t-SNE
FEWEST = 20  # faces that make a t-SNE


@dataclass(frozen=True)
class Explained:
    """One figure: name of its file, which of the paper's it is, what to know about it, picture and numbers."""

    name: str
    paper: str
    caption: str
    svg: bytes
    numbers: Mapping[str, Any]


def class_distribution(dataset: Dataset) -> Explained:
    """Figure 1A: labelled images of each class in each split, and in the clean test."""
    rows = {split: dataset.subset(split) for split in SPLITS}
    rows["clean test"] = dataset.subset("test", clean=True)
    counts = {
        name: np.bincount(dataset.labels[chosen], minlength=len(dataset.classes)).tolist()
        for name, chosen in rows.items()
        if len(chosen)
    }
    caption = (
        f"Labelled images of {dataset.name} by class and split, on a logarithmic axis. The clean test leaves out "
        "images whose pixels also occur in an earlier split; the paper counts all."
    )
    svg = figures.distribution(dataset.classes, counts)
    return Explained("class-distribution", "figure 1A", caption, svg, {"images": counts})


def confusion(model: Classifier, dataset: Dataset, split: str) -> Explained:
    """Figure 3: what is taken for what, on the split as it is and without images seen in training."""
    rows = dataset.subset(split)
    answers = predict(model, dataset, rows).probabilities.argmax(axis=1)
    clean = np.isin(rows, dataset.subset(split, clean=True))
    sets = {}
    for name, kept in (("official", np.ones_like(clean)), ("clean", clean)):
        sets[name] = confusion_matrix(
            dataset.labels[rows[kept]],
            answers[kept],
            labels=range(len(dataset.classes)),
        )
    titles = {f"{name} {split}, {matrix.sum():,} images": matrix for name, matrix in sets.items()}
    caption = (
        f"Confusions on {dataset.name}: images, and their share of the label's where it has at least 30. Every "
        "face is answered by itself; the paper's are answered in batches sorted by class."
    )
    numbers = {name: matrix.tolist() for name, matrix in sets.items()}
    return Explained(
        "confusion", "figure 3", caption, figures.confusion(dataset.classes, titles), numbers
    )


def feature_planes(model: ConvCut, plan: Recipe, dataset: Dataset, split: str) -> Explained:
    """Figure 4: t-SNE of three depths of the network, at most ``MOST`` clean faces of each class.

    Raises:
        InputError: The split has fewer than ``FEWEST`` of them.
    """
    rows = dataset.subset(split, clean=True)
    rows = rows[embedding.balanced(dataset.labels[rows], MOST)] if len(rows) else rows
    if len(rows) < FEWEST:
        raise InputError(
            f"{dataset.name} has {len(rows)} clean {split} faces, t-SNE needs {FEWEST}: give more data, or "
            "another --split"
        )
    labels = dataset.labels[rows]
    faces = torch.cat([_face(dataset.image(int(row)), plan) for row in rows])
    matrices = embedding.features(model, faces, plan.input)
    scores = {depth: embedding.scores(matrix, labels) for depth, matrix in matrices.items()}
    planes = {depth: embedding.embed(matrix) for depth, matrix in matrices.items()}
    panels = {
        depth: (
            f"silhouette {scores[depth]['silhouette']:.2f}, "
            f"five neighbours {scores[depth]['neighbours']:.0%}",
            plane,
        )
        for depth, plane in planes.items()
    }
    chance = 1 / len(np.unique(labels))
    caption = (
        f"t-SNE of {len(rows)} faces of the clean {split} of {dataset.name}, at most {MOST} of a class. Baseline: "
        "the pixels as the network gets them (the paper's is a full ConvNeXt, which a checkpoint of a cut network "
        "does not hold); truncated: the map of the cut trunk, averaged over its positions; Conv-cut: what the head "
        "sees. Every face is computed by itself; the paper's released code embeds the answers of class-sorted "
        "batches instead of features. The scores are taken in the space of the features, not in the picture: "
        f"silhouette, and balanced accuracy of the vote of the five nearest others (chance: {chance:.0%})."
    )
    numbers = {
        "rows": rows.tolist(),
        "labels": labels.tolist(),
        "chance": chance,
        "scores": scores,
        "points": {depth: plane.round(3).tolist() for depth, plane in planes.items()},
    }
    svg = figures.embedding(dataset.classes, labels, panels)
    return Explained("features", "figure 4", caption, svg, numbers)


def activations(
    model: ConvCut, plan: Recipe, classes: Sequence[str], source: str = SYNTHETIC
) -> Explained:
    """Figure 5: where the cut trunk and Conv-cut see what speaks for the class of a face.

    Args:
        model: In evaluation mode.
        plan: Its recipe.
        classes: Its K expressions.
        source: See ``portraits``.

    Raises:
        InputError: No such folder, none of the model's classes in it, or faces that may not be shown.
    """
    rows, numbers = [], []
    device = next(model.parameters()).device
    for name, asked, pixels in portraits(classes, source):
        face = _face(pixels, plan)
        image = normalise(face.to(device), plan.input)
        label = int(model(image).argmax()) if asked is None else asked
        on_device, logits = grad_cam(model, (model.trunk, model.detail), image, label)
        maps = [activation.cpu() for activation in on_device]
        if not logits.isfinite().all():
            raise InputError(
                f"the model answers {name} with NaN or infinity: its weights are broken; train again with a lower "
                "learning rate"
            )
        size = max(96, plan.input.size)
        overlays = {
            depth: spread(activation, size).numpy()
            for depth, activation in zip(("cut trunk", "Conv-cut"), maps, strict=True)
        }
        seen = face[0].permute(1, 2, 0).expand(-1, -1, 3).numpy()
        rows.append(figures.Sight(name, _enlarged(seen, size), overlays))
        numbers.append(
            {
                "face": name,
                "class": classes[label],
                "answer": classes[int(logits.argmax())],
                "maps": {
                    depth: activation.numpy().round(4).tolist()
                    for depth, activation in zip(overlays, maps, strict=True)
                },
            }
        )
    kind = "rendered faces and one portrait in the public domain (NASA)"
    caption = (
        f"Grad-CAM (Selvaraju et al., 2017) of {kind if source == SYNTHETIC else 'the pictures given'}: what "
        "speaks for the class written beside each, in the map in front of detail extraction (cut trunk) and in the "
        "one in front of the tail (Conv-cut), each scaled to its own maximum; a face that stays grey has nothing "
        "that does. The paper shows real faces of its data sets, of the rarest and the commonest classes; here is "
        "one face of every class."
    )
    return Explained("grad-cam", "figure 5", caption, figures.sights(rows), {"faces": numbers})


def _face(pixels: Pixels, plan: Recipe) -> Tensor:
    """uint8 [1, C, S, S] as the network takes it."""
    face = resize(pixels, plan.input.size, grey=len(plan.input.mean) == 1)
    return torch.tensor(face).permute(2, 0, 1).unsqueeze(0)


def _enlarged(face: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BILINEAR))


def explain(
    checkpoint: Path,
    folder: Path,
    *,
    data: str | None = None,
    split: str = "test",
    faces: str = SYNTHETIC,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> dict[str, Any]:
    """Writes the figures of a model, and ``explain.json`` with the numbers behind each, last.

    Args:
        checkpoint: ``model.safetensors`` of a run.
        folder: Where to write.
        data: Labelled faces for all figures but Grad-CAM, as ``open_faces`` takes them; None leaves those out.
        split: Which of them.
        faces: See ``portraits``.
        progress: Called as (phase, done, total).

    Returns:
        What stands in ``explain.json``.

    Raises:
        InputError: Model, data, faces or folder cannot be used, or do not fit each other; no figure was written.
    """
    model, plan, note = trained(checkpoint)
    accelerated(model)
    classes: tuple[str, ...] = tuple(note["classes"])
    make_folder(folder)
    dataset = None
    parts: dict[str, Callable[[], Explained]] = {}
    if data is not None:
        progress("reading the data", 0, 5)
        dataset = opened = open_faces(data)
        if not len(dataset.subset(split)):
            raise InputError(
                f"{dataset.name} has no labelled {split} faces: choose another --split"
            )
        parts = {
            "class distribution": lambda: class_distribution(opened),
            "confusion": lambda: confusion(
                classifier(checkpoint, model, plan, note), opened, split
            ),
            "t-SNE": lambda: feature_planes(model, plan, opened, split),
        }
    parts["Grad-CAM"] = lambda: activations(model, plan, classes, faces)
    drawn = []
    for number, (phase, draw) in enumerate(parts.items()):
        progress(phase, number, len(parts))
        drawn.append(draw())
    report = {
        "schema": SCHEMA,
        "kind": "explain",
        "model": plan.name,
        "sha256": sha256(checkpoint),
        "attention": plan.network.attention,
        "classes": list(classes),
        "data": None if dataset is None else dataset.name,
        "split": None if dataset is None else split,
        "figures": {
            figure.name: {
                "file": f"{figure.name}.svg",
                "paper": figure.paper,
                "caption": figure.caption,
                "numbers": figure.numbers,
            }
            for figure in drawn
        },
    }
    for figure in drawn:
        write_file(folder / f"{figure.name}.svg", figure.svg)
    # On one line: indented, every coordinate of the t-SNE would have a line of its own.
    write_file(folder / "explain.json", json.dumps(report).encode() + b"\n")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``explain``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt explain",
        description="Draw the paper's figures for a trained model: SVG, and explain.json with the numbers.",
        epilog="example: convcut-trt explain runs/conv-cut-mini/model.safetensors --data ferplus.npz -o figures",
    )
    parser.add_argument("checkpoint", type=Path, help="model.safetensors of a run")
    parser.add_argument(
        "--data",
        help=f"for statistics, no face of it is drawn (default: Grad-CAM only). {DATA_HELP}",
    )
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: %(default)s")
    parser.add_argument(
        "--faces",
        default=SYNTHETIC,
        metavar="synthetic|FOLDER",
        help="whose faces Grad-CAM draws: rendered ones, or your own pictures in class folders; those of FERPlus "
        "and RAF-DB never are (default: %(default)s)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="default: explain beside the checkpoint"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args(arguments)
    folder = options.output or options.checkpoint.parent / "explain"
    with Progress() as progress:
        report = explain(
            options.checkpoint,
            folder,
            data=options.data,
            split=options.split,
            faces=options.faces,
            progress=progress,
        )
    if options.json:
        print(json.dumps(report))
    else:
        for figure in report["figures"].values():
            print(f"{folder / figure['file']}: the paper's {figure['paper']}")
    if options.data is None:
        print("no --data: confusions, classes and features were left out", file=sys.stderr)
    return 0
