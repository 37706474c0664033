"""ModelSpec: what a model file cannot say of itself, ``NAME.spec.json`` beside ``NAME.onnx``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import SpecError
from convcut_trt.fields import Fields, read_json, sha256, write_json
from convcut_trt.preprocess import check_picture, crop_box, resize

SCHEMA = 1
INPUT = "images"
OUTPUTS = ("logits", "probabilities", "map")
MAX_SIZE = 512
"""Pixels a side that a network may take: all faces of the gates are held in memory at once."""
NAME = re.compile(r"\w[\w.+-]{0,99}")
"""What models may be called: files, topics and folders are named after them."""
_FIX = "export the model again with `convcut-trt export`"


@dataclass(frozen=True)
class Witness:
    """A picture with the answer of the trained model.

    Attributes:
        file: Path of the picture, relative to the spec.
        sha256: Of the file.
        box: (x, y, width, height) of the face in pixels.
        probabilities: [K], of the PyTorch model on this face.
    """

    file: str
    sha256: str
    box: tuple[float, float, float, float]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class ModelSpec:
    """Everything a robot needs to know of a model besides its weights.

    Attributes:
        name: Of the model; file names start with it.
        onnx_sha256: Binds the spec to its ONNX file.
        classes: The K expressions, in the order of the outputs.
        size: Side of the square input in pixels; the input is uint8 RGB [N, size, size, 3].
        margin: Crop margin as a share of the face box's longer side, see ``preprocess.crop_box``.
        map_shape: (C, P, P) of the map at the seam between trunk and tail.
        temperature: Divides the logits in front of the softmax.
        reject: A face whose likeliest expression is below this probability is "unknown" to a robot; see ``track``.
            0 where none was chosen.
        network: The recipe's network section: trunk, cut, detail, projection, attention ...
        witnesses: Pictures with the trained model's answers.
        provenance: Where the weights come from and what was measured on them.
    """

    name: str
    onnx_sha256: str
    classes: tuple[str, ...]
    size: int
    margin: float
    map_shape: tuple[int, int, int]
    temperature: float
    network: Mapping[str, Any]
    witnesses: tuple[Witness, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    reject: float = 0.0

    @classmethod
    def read(cls, path: Path) -> ModelSpec:
        """Reads ``NAME.spec.json``.

        Raises:
            SpecError: No such file, or not a spec of this version.
        """
        return cls.from_fields(read_json(path, SCHEMA, SpecError, _FIX))

    @classmethod
    def from_fields(cls, fields: Fields) -> ModelSpec:
        """Takes a spec out of a JSON object, checking every field."""
        spec = cls(
            name=fields.get("name", str),
            onnx_sha256=fields.get("onnx_sha256", str),
            classes=fields.list_of("classes", str),
            size=fields.get("size", int),
            margin=fields.get("margin", float),
            map_shape=_three(fields.list_of("map_shape", int), fields),
            temperature=fields.get("temperature", float),
            network=fields.get("network", dict),
            witnesses=tuple(_witness(entry) for entry in fields.objects("witnesses")),
            provenance=fields.get("provenance", dict),
            reject=fields.optional("reject", float) or 0.0,
        )
        if not NAME.fullmatch(spec.name):
            raise SpecError(
                f"{fields.source}: the field 'name' must be at most 100 letters and digits, it names files; {_FIX}"
            )
        if len(spec.classes) < 2 or len(set(spec.classes)) != len(spec.classes):
            raise SpecError(f"{fields.source}: needs at least two classes, each once; {_FIX}")
        if not 1 <= spec.size <= MAX_SIZE or not 0 <= spec.margin <= 2 or not spec.temperature > 0:
            raise SpecError(f"{fields.source}: size, margin or temperature is out of range; {_FIX}")
        if not 0 <= spec.reject <= 1:
            raise SpecError(f"{fields.source}: reject is a probability, 0 to 1; {_FIX}")
        if any(len(witness.probabilities) != len(spec.classes) for witness in spec.witnesses):
            raise SpecError(f"{fields.source}: a witness has not one probability a class; {_FIX}")
        return spec

    def to_json(self) -> dict[str, Any]:
        """The spec as a JSON object."""
        return {"schema": SCHEMA, **asdict(self)}

    def write(self, path: Path) -> None:
        """Writes ``NAME.spec.json``, whole or not at all."""
        write_json(path, self.to_json())

    def check_onnx(self, path: Path) -> None:
        """Makes sure that this spec belongs to an ONNX file.

        Raises:
            SpecError: The file is another one than the spec was written for.
        """
        if sha256(path) != self.onnx_sha256:
            raise SpecError(
                f"{self.name}.spec.json does not belong to {path.name}: the file's SHA-256 is another one; {_FIX}"
            )

    def face(
        self, picture: NDArray[np.uint8], box: tuple[float, float, float, float] | None = None
    ) -> NDArray[np.uint8]:
        """Cuts a face out of a picture by this spec's rule.

        Args:
            picture: uint8 RGB [H, W, 3] or grey [H, W].
            box: (x, y, width, height) of the face in pixels; None takes the largest centred square.

        Returns:
            uint8 RGB [size, size, 3].

        Raises:
            InputError: The array is no picture, or the box is not in it.
        """
        check_picture(picture)
        height, width = picture.shape[:2]
        margin = 0.0 if box is None else self.margin
        return resize(picture, self.size, box=crop_box(box, width, height, margin))

    def witness_faces(self, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Decodes and crops the witnesses.

        Args:
            folder: Where the spec lies.

        Returns:
            Faces uint8 [W, size, size, 3] and the trained model's probabilities float32 [W, K].

        Raises:
            SpecError: A picture is missing, changed, or the spec has none.
        """
        from convcut_trt.pictures import load_picture

        if not self.witnesses:
            raise SpecError(f"{self.name}.spec.json has no witnesses; {_FIX}")
        faces = []
        for witness in self.witnesses:
            path = folder / witness.file
            try:
                found = sha256(path)
            except (OSError, ValueError):  # ValueError: no file can be called so
                raise SpecError(
                    f"the witness {path} is missing: copy the folder {path.parent.name}/ along"
                ) from None
            if found != witness.sha256:
                raise SpecError(f"the witness {path} was changed: copy it again, or {_FIX}")
            faces.append(self.face(load_picture(path), witness.box))
        answers = np.array([witness.probabilities for witness in self.witnesses], dtype=np.float32)
        return np.stack(faces), answers


def _three(values: tuple[int, ...], fields: Fields) -> tuple[int, int, int]:
    if len(values) != 3 or min(values) < 1:
        raise SpecError(f"{fields.source}: map_shape needs three positive sizes; {_FIX}")
    return values[0], values[1], values[2]


def _witness(fields: Fields) -> Witness:
    box = fields.list_of("box", float)
    file = Path(fields.get("file", str))
    if len(box) != 4 or file.is_absolute() or ".." in file.parts:
        raise SpecError(
            f"{fields.source}: needs a box of four numbers and a file below the spec; {_FIX}"
        )
    return Witness(
        str(file),
        fields.get("sha256", str),
        (box[0], box[1], box[2], box[3]),
        fields.list_of("probabilities", float),
    )
