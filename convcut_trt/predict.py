"""The verb ``predict``: what the faces in pictures express, as a table, as JSON, or drawn."""

from __future__ import annotations

import io
import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.draw import Overlay
from convcut_trt.engine import Engine, load
from convcut_trt.errors import InputError
from convcut_trt.faces.detect import Detector, crop_margin, detector
from convcut_trt.fields import write_file
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.pictures import load_picture, shown_name
from convcut_trt.preprocess import crop_box
from convcut_trt.track import Face

_VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mcap")


@dataclass(frozen=True, eq=False)
class _Answer:
    """The faces of one picture; their numbers count from 1."""

    file: Path
    faces: tuple[Face, ...]


def predict(options: Namespace) -> int:
    """The verb ``predict``. A picture without a face is an answer and no error."""
    if options.box is not None and options.detector is not None:
        raise InputError(
            "--box says where the face is and --detector looks for it: give one of them"
        )
    files: list[Path] = options.files
    for file in files:
        if file.suffix.lower() in _VIDEOS:
            raise InputError(f"{file} is no picture: convcut-trt run {file} --to out.mp4")
    targets = None if options.draw is None else _targets(options.draw, files)
    find = None if options.detector is None else detector(options.detector)
    if options.box is None and find is None:
        print(
            "no face box given: the middle square of each picture is taken for a face; "
            "--detector haar looks for faces",
            file=sys.stderr,
        )
    with load(options.engine or DEFAULT_MODEL, trust=options.trust) as engine:
        answers = [
            _Answer(file, _faces(engine, load_picture(file), options.box, find)) for file in files
        ]
        classes = engine.classes
    for answer, target in zip(answers, targets or (), strict=False):
        _draw(answer, classes, target)
    rows = [row for answer in answers for row in _rows(answer, classes)]
    if options.json:
        print(json.dumps({"predictions": rows}))
    else:
        _print(rows, classes, places=find is not None)
    return 0


def _faces(
    engine: Engine,
    picture: NDArray[np.uint8],
    box: tuple[float, float, float, float] | None,
    find: Detector | None,
) -> tuple[Face, ...]:
    height, width = picture.shape[:2]
    margin = engine.spec.margin
    if find is not None:
        boxes, margin = find(picture), crop_margin(find, margin)
    elif box is not None:
        boxes = np.array([box])
    else:
        left, top, right, bottom = crop_box(None, width, height)
        boxes, margin = np.array([[left, top, right - left, bottom - top]]), 0.0
    answer = engine.predict_frame(picture, boxes, margin=margin)
    rows = zip(boxes.tolist(), answer.labels, answer.probabilities, strict=True)
    return tuple(
        Face(number, (x, y, wide, high), shares, shares, label, float(shares.max()))
        for number, ((x, y, wide, high), label, shares) in enumerate(rows, 1)
    )


def _rows(answer: _Answer, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row of each face, or one that says that there is none."""
    file = shown_name(answer.file)
    if not answer.faces:
        return [{"file": file, "face": None, "box": None, "label": None, "probabilities": None}]
    return [
        {
            "file": file,
            "face": face.track,
            "box": [round(value, 2) for value in face.box],
            "label": face.label,
            "probabilities": {
                name: round(float(share), 4) for name, share in zip(classes, face.raw, strict=True)
            },
        }
        for face in answer.faces
    ]


def _print(rows: Sequence[dict[str, Any]], classes: Sequence[str], *, places: bool) -> None:
    """The table; with ``places``, where each face is."""
    width = max(len(row["file"]) for row in rows)
    label_width = max(map(len, classes))
    for row in rows:
        line = f"{row['file']:{width}}  "
        if row["face"] is None:
            print(f"{line}no face found")
            continue
        if places:
            place = ",".join(f"{value:.0f}" for value in row["box"])
            line += f"face {row['face']} at {place:17}  "
        ranked = sorted(row["probabilities"].items(), key=lambda item: -item[1])[:3]
        shown = "   ".join(f"{name} {share:.1%}" for name, share in ranked)
        print(f"{line}{row['label']:{label_width}}  {shown}")


def _targets(target: Path, files: Sequence[Path]) -> list[Path]:
    """Where each picture is drawn to."""
    if len(files) > 1 and target.suffix:
        raise InputError(f"--draw {target} is one file for {len(files)} pictures: give a folder")
    targets = [target] if target.suffix else [target / f"{file.stem}.png" for file in files]
    _format(targets[0])
    given, taken = {os.path.realpath(file) for file in files}, set[str]()
    for path in targets:
        place = os.path.realpath(path)
        if place in given:
            raise InputError(
                f"--draw {target} would replace the picture {path} itself: give another place"
            )
        if place in taken:
            raise InputError(
                f"--draw {target} would draw two of the pictures to {path}: draw them one by one"
            )
        taken.add(place)
    return targets


def _format(target: Path) -> str:
    """What Pillow calls the kind of picture that a file's ending means."""
    from PIL import Image

    format = Image.registered_extensions().get(target.suffix.lower(), "")
    if format not in Image.SAVE:
        raise InputError(
            f"--draw {target} is no kind of picture that can be written: give a .png or .jpg path"
        )
    return format


def _draw(answer: _Answer, classes: Sequence[str], target: Path) -> None:
    from PIL import Image

    picture = load_picture(answer.file)  # anew: all of them would fill the memory
    height, width = picture.shape[:2]
    drawn, content = Overlay(classes, width, height).draw(picture, answer.faces), io.BytesIO()
    try:
        Image.fromarray(drawn).save(content, _format(target))
        target.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--draw {target} cannot be written ({error}): give a .png or .jpg path"
        ) from None
    write_file(target, content.getvalue())
    print(f"drawn: {target}", file=sys.stderr)
