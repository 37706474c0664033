"""The model spec: every field is checked, and the pictures in it are the ones that were meant."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convcut_trt.errors import InputError, SpecError
from convcut_trt.fields import sha256
from convcut_trt.preprocess import resize
from convcut_trt.spec import MAX_SIZE, SCHEMA, ModelSpec, Witness

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """A spec with one witness, written to the folder of the test."""
    (tmp_path / "witnesses").mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "witnesses" / "a.png")
    (tmp_path / "tiny.onnx").write_bytes(b"weights")
    spec = ModelSpec(
        name="tiny",
        onnx_sha256=sha256(tmp_path / "tiny.onnx"),
        classes=("happy", "sad"),
        size=8,
        margin=0.1,
        map_shape=(4, 2, 2),
        temperature=1.5,
        network={"trunk": "convnext_tiny", "detail": [[3, 1]]},
        witnesses=(
            Witness(
                "witnesses/a.png",
                sha256(tmp_path / "witnesses" / "a.png"),
                (10.0, 5.0, 20.0, 20.0),
                (0.25, 0.75),
            ),
        ),
        provenance={"torch": "2.15"},
    )
    spec.write(tmp_path / "tiny.spec.json")
    return spec


def read_changed(folder: Path, field: str, value: Any, witness: bool = False) -> ModelSpec:
    """Reads the spec of the folder after one field was changed; ``...`` takes it out."""
    path = folder / "tiny.spec.json"
    values = json.loads(path.read_text())
    target = values["witnesses"][0] if witness else values
    target[field] = value
    if value is ...:
        del target[field]
    path.write_text(json.dumps(values))
    return ModelSpec.read(path)


def test_round_trip(tmp_path: Path, spec: ModelSpec) -> None:
    assert ModelSpec.read(tmp_path / "tiny.spec.json") == spec
    spec.check_onnx(tmp_path / "tiny.onnx")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, ...) for field in ("name", "classes", "size", "network", "witnesses")),
        *(
            ("name", value)
            for value in (5, "", "../up", "a/b", "/etc/a", "..", ".hidden", "a\0", "a" * 101)
        ),
        ("onnx_sha256", None),
        ("classes", ["happy"]),
        ("classes", ["happy", "happy"]),
        ("classes", [1, 2]),
        ("size", 0),
        ("size", MAX_SIZE + 1),  # the faces of the gates alone would fill the memory
        ("size", 10**9),
        ("size", 8.5),
        ("margin", -0.1),
        ("margin", 2.1),
        ("margin", math.nan),
        ("temperature", 0),
        ("temperature", -1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("map_shape", [4, 2]),
        ("map_shape", [4, 2, 0]),
        ("network", []),
        ("provenance", "mine"),
        ("witnesses", {}),
        ("witnesses", [5]),
    ],
)
def test_a_broken_field_is_named(
    tmp_path: Path, spec: ModelSpec, field: str, value: object
) -> None:
    with pytest.raises(SpecError, match=rf"tiny\.spec\.json.*{field}"):
        read_changed(tmp_path, field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", ...),
        ("file", "../x.png"),
        ("file", "witnesses/../../x.png"),
        ("file", "/etc/passwd"),
        ("sha256", 5),
        ("box", [1, 2, 3]),
        ("box", [1, 2, 3, "4"]),
        ("box", [1, 2, 3, math.nan]),
        ("probabilities", [0.5, None]),
        ("probabilities", [0.5, math.inf]),
    ],
)
def test_a_broken_witness_is_named(
    tmp_path: Path, spec: ModelSpec, field: str, value: object
) -> None:
    with pytest.raises(SpecError, match=rf"tiny\.spec\.json: witnesses\[0\].*{field}"):
        read_changed(tmp_path, field, value, witness=True)


def test_a_witness_of_other_classes(tmp_path: Path, spec: ModelSpec) -> None:
    with pytest.raises(SpecError, match="a witness has not one probability a class"):
        read_changed(tmp_path, "probabilities", [1.0], witness=True)


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1])
def test_another_schema(tmp_path: Path, spec: ModelSpec, schema: int) -> None:
    with pytest.raises(SpecError, match=f"schema {schema}, this version reads {SCHEMA}: export"):
        read_changed(tmp_path, "schema", schema)


def test_a_spec_of_another_model(tmp_path: Path, spec: ModelSpec) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"weightz")
    with pytest.raises(SpecError, match=r"tiny\.spec\.json does not belong to tiny\.onnx"):
        spec.check_onnx(tmp_path / "tiny.onnx")


def test_witnesses_are_decoded_and_cropped(tmp_path: Path, spec: ModelSpec) -> None:
    faces, answers = spec.witness_faces(tmp_path)
    assert faces.shape == (1, 8, 8, 3)
    assert faces.dtype == np.uint8
    np.testing.assert_array_equal(faces[0], spec.face(PICTURE, (10, 5, 20, 20)))
    np.testing.assert_array_equal(answers, np.array([[0.25, 0.75]], np.float32))


def test_without_a_box_the_margin_does_not_count(spec: ModelSpec) -> None:
    expected = resize(PICTURE, 8, box=(10, 0, 50, 40))
    np.testing.assert_array_equal(spec.face(PICTURE), expected)
    assert spec.face(PICTURE[..., 0]).shape == (8, 8, 3)


@pytest.mark.parametrize("shape", [(5,), (1, 40, 60, 3), (40, 60, 4), (0, 60, 3)])
def test_a_face_of_no_picture(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="picture"):
        spec.face(np.zeros(shape, np.uint8), (1, 1, 2, 2))


def test_a_missing_and_a_changed_witness(tmp_path: Path, spec: ModelSpec) -> None:
    path = tmp_path / "witnesses" / "a.png"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SpecError, match=r"a\.png was changed: copy it again"):
        spec.witness_faces(tmp_path)
    path.unlink()
    with pytest.raises(SpecError, match="a.png is missing: copy the folder witnesses/ along"):
        spec.witness_faces(tmp_path)


@pytest.mark.parametrize("file", ["a" * 300, "a\0.png", "witnesses", ""])
def test_a_witness_that_no_file_can_be(tmp_path: Path, spec: ModelSpec, file: str) -> None:
    changed = read_changed(tmp_path, "file", file, witness=True)
    with pytest.raises(SpecError, match="is missing"):
        changed.witness_faces(tmp_path)


def test_no_witnesses_at_all(tmp_path: Path, spec: ModelSpec) -> None:
    with pytest.raises(SpecError, match=r"tiny\.spec\.json has no witnesses"):
        read_changed(tmp_path, "witnesses", []).witness_faces(tmp_path)
