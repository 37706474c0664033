"""A model under test, from a checkpoint in torch or its exported ONNX, and what it answers on labelled faces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from convcut_trt.datasets import Dataset
from convcut_trt.errors import InputError
from convcut_trt.home import find_model
from convcut_trt.optional import load
from convcut_trt.preprocess import resize
from convcut_trt.spec import INPUT
from export.data import normalise
from export.model import ConvCut
from export.recipe import Recipe
from export.to_onnx import trained

onnxruntime = load("onnxruntime", "ort")

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]
_BATCH = 64


@dataclass(frozen=True)
class Answers:
    """Logits and probabilities, both float32 [N, K]; the probabilities are those behind the temperature."""

    logits: Floats
    probabilities: Floats


@dataclass(frozen=True)
class Classifier:
    """A model under test.

    Attributes:
        file: Where it comes from.
        classes: The K expressions, in the order of its answers.
        temperature: Divides the logits in front of the softmax.
        batch: Faces it is asked for at once: one, where a face's answer depends on its neighbours.
        answer: Pictures uint8 [H, W] or [H, W, 3], of any size, to answers.
    """

    file: Path
    classes: tuple[str, ...]
    temperature: float
    batch: int
    answer: Callable[[Sequence[Picture]], Answers]


def open_classifier(path: Path) -> Classifier:
    """Opens a ``model.safetensors`` in torch, or an exported ``NAME.onnx`` in onnxruntime.

    Raises:
        InputError: Neither of the two, or weights that are not finite.
        SpecError: The ONNX file has no spec, or another model's.
    """
    return _exported(path) if path.suffix == ".onnx" else _checkpoint(path)


def _checkpoint(path: Path) -> Classifier:
    model, plan, note = trained(path)
    return classifier(path, accelerated(model), plan, note)


def accelerated(model: ConvCut) -> ConvCut:
    """Moves a network to where it computes fastest, and returns it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def classifier(path: Path, model: ConvCut, plan: Recipe, note: Mapping[str, Any]) -> Classifier:
    """What ``trained`` read from a file, as a model under test; it computes where the network lies.

    Raises:
        InputError: Weights that are not finite.
    """
    broken = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(
            f"{path} answers with NaN: {len(broken)} of its tensors are not finite, the first is {broken[0]}; "
            "train again with a lower learning rate"
        )
    temperature, device = float(note.get("temperature", 1.0)), next(model.parameters()).device
    grey = len(plan.input.mean) == 1

    @torch.inference_mode()
    def answer(pictures: Sequence[Picture]) -> Answers:
        faces = np.stack([resize(picture, plan.input.size, grey=grey) for picture in pictures])
        images = torch.from_numpy(faces).permute(0, 3, 1, 2).to(device)
        logits = model(normalise(images, plan.input))
        probabilities = logits.div(temperature).softmax(dim=1)
        return Answers(logits.cpu().numpy(), probabilities.cpu().numpy())

    batch = model.faces_at_once(_BATCH)
    return Classifier(path, tuple(note["classes"]), temperature, batch, answer)


def _exported(path: Path) -> Classifier:
    model = find_model(path)
    session = onnxruntime.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0].shape[0]
    fixed = first if isinstance(first, int) else None

    def answer(pictures: Sequence[Picture]) -> Answers:
        faces = np.stack([resize(picture, model.spec.size) for picture in pictures])
        size = fixed or len(faces)
        padded = np.concatenate([faces, np.repeat(faces[-1:], -len(faces) % size, axis=0)])
        runs = [
            session.run(["logits", "probabilities"], {INPUT: padded[start : start + size]})
            for start in range(0, len(padded), size)
        ]
        logits, probabilities = (np.concatenate(p)[: len(faces)] for p in zip(*runs, strict=True))
        return Answers(logits, probabilities)

    return Classifier(
        model.onnx, model.spec.classes, model.spec.temperature, fixed or _BATCH, answer
    )


def predict(
    model: Classifier,
    dataset: Dataset,
    rows: NDArray[np.intp],
    *,
    batch: int | None = None,
    change: Callable[[Picture, int], Picture] | None = None,
    bar: tqdm[Any] | None = None,
) -> Answers:
    """Answers [M, K] on the images ``rows``, the columns in the order of the data's classes.

    Args:
        model: Under test.
        dataset: Labelled with the classes of the model.
        rows: Positions in it, at least one.
        batch: Faces asked at once; default: the model's own.
        change: What to do to a picture, of this row, before the model resizes it.
        bar: Counts the faces; without it a bar of its own, on stderr.

    Raises:
        InputError: Model and data have different classes, or an answer is not finite.
    """
    if set(model.classes) != set(dataset.classes):
        raise InputError(
            f"{model.file} tells {', '.join(model.classes)} apart, {dataset.name} is labelled "
            f"{', '.join(dataset.classes)}: give data with the classes of the model"
        )
    columns = [model.classes.index(name) for name in dataset.classes]
    size = batch or model.batch
    logits, probabilities = [], []
    shown = nullcontext(bar) if bar is not None else _bar(len(rows), model.file.name)
    with shown as counter:
        for start in range(0, len(rows), size):
            part = [int(row) for row in rows[start : start + size]]
            pictures = [dataset.image(row) for row in part]
            if change is not None:
                pictures = [change(*pair) for pair in zip(pictures, part, strict=True)]
            answers = model.answer(pictures)
            finite = np.isfinite(answers.logits) & np.isfinite(answers.probabilities)
            if not finite.all():
                first = dataset.image_name(part[int(finite.all(axis=1).argmin())])
                raise InputError(
                    f"{model.file} answers {first} with NaN or infinity: its weights are broken or overflow; "
                    "train again with a lower learning rate, or export again"
                )
            logits.append(answers.logits[:, columns])
            probabilities.append(answers.probabilities[:, columns])
            counter.update(len(part))
    return Answers(np.concatenate(logits), np.concatenate(probabilities))


def _bar(total: int, name: str) -> tqdm[Any]:
    return tqdm(total=total, unit="face", file=sys.stderr, desc=name)
