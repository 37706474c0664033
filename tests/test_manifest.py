"""The manifest: what was edited, swapped, lost or forged is noticed before anything is opened."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convcut_trt import home
from convcut_trt.errors import ConvcutError, ManifestError
from convcut_trt.fields import canonical, sha256
from convcut_trt.manifest import SCHEMA, STAND_IN, EngineManifest, find_manifest, manifests

STEM = "conv-cut-mini.fp16.tensorrt-rtx.sm89"


PRECISION = {
    "requested": "auto",
    "asked": "fp16",
    "stored": {"fp16": 1.0},
    "computed": {},
    "text": "",
}
GATE_CHANGES: list[dict[str, Any]] = [{"name": {}}, {"value": 10**400}, {"detail": 1}, {"a": 1}]
GATE = {"name": "finite", "value": 0.0, "budget": None, "verdict": "pass", "detail": ""}


@pytest.fixture
def manifest(tmp_path: Path) -> EngineManifest:
    """A published engine of 8 bytes."""
    (tmp_path / f"{STEM}.engine").write_bytes(b"a plan..")
    (tmp_path / f"{STEM}.onnx").write_bytes(b"a graph.")
    manifest = EngineManifest(
        name="conv-cut-mini",
        precision=PRECISION,
        flavour="tensorrt-rtx",
        versions={"builder": "1.7.1.116"},
        target="rtx4060ti",
        compute_capability="8.9",
        files={
            "engine": f"{STEM}.engine",
            "typed_onnx": f"{STEM}.onnx",
        },
        sha256={
            "engine": sha256(tmp_path / f"{STEM}.engine"),
            "typed_onnx": sha256(tmp_path / f"{STEM}.onnx"),
            "onnx": "0" * 64,
            "ranges": None,
        },
        outputs=("logits", "probabilities", "map"),
        batch=(1, 4, 16),
        placement="",
        mlp="conv",
        tail="native",
        operations=49,
        budgets={"witnesses": 0.01},
        gates=(GATE,),
        verdicts=(),
        judged_on="256 bundled pictures",
        verified_on=STAND_IN,
        build={"seconds": 1.5},
        date="2025-01-01T00:00:00+00:00",
        spec=home.find_model(home.DEFAULT_MODEL).spec,
        path=tmp_path / f"{STEM}.json",
    )
    manifest.write(manifest.path)
    return manifest


def reseal(path: Path, change: dict[str, Any]) -> None:
    """What a forger would do: change fields and make the seal fit."""
    values = {**json.loads(path.read_text()), **change}
    del values["manifest_sha256"]
    values["manifest_sha256"] = hashlib.sha256(canonical(values)).hexdigest()
    path.write_text(json.dumps(values))


def test_round_trip(manifest: EngineManifest) -> None:
    found = EngineManifest.read(manifest.path)
    assert found == manifest
    assert found.path == manifest.path
    assert found.engine.read_bytes() == b"a plan.."
    assert found.typed_onnx.read_bytes() == b"a graph."
    found.check_files()


def test_verified_means_not_by_a_stand_in(manifest: EngineManifest) -> None:
    assert not manifest.verified
    assert replace(manifest, verified_on="onnxruntime-cpu (x86_64)").verified


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"verdict": "pass"', '"verdict": "fail"'),
        (STAND_IN, "tensorrt-rtx on a GPU"),
        ('"fp16": 1.0', '"fp16": 0.9'),
        ('"manifest_sha256": "', '"manifest_sha256": "0'),
        ('"size": 48', '"size": 64'),
    ],
)
def test_an_edit_by_hand_is_noticed(manifest: EngineManifest, before: str, after: str) -> None:
    text = manifest.path.read_text()
    assert before in text
    manifest.path.write_text(text.replace(before, after, 1))
    with pytest.raises(ManifestError, match="was edited by hand: .* build the engine again"):
        EngineManifest.read(manifest.path)


def test_a_manifest_of_another_network(manifest: EngineManifest) -> None:
    reseal(manifest.path, {"name": "another"})
    with pytest.raises(ManifestError, match="its spec is of conv-cut-mini"):
        EngineManifest.read(manifest.path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_a_failed_gate_measured_is_kept(manifest: EngineManifest, value: float) -> None:
    replace(manifest, gates=({**GATE, "value": value, "verdict": "fail"},)).write(manifest.path)
    found = EngineManifest.read(manifest.path)
    assert found.failed == ("finite",)
    assert found.gates[0]["value"] == pytest.approx(value, nan_ok=True)


def test_a_name_that_no_file_can_have(manifest: EngineManifest) -> None:
    files = {"engine": "a" * 300, "typed_onnx": f"{STEM}.onnx"}
    with pytest.raises(ManifestError, match="is missing"):
        replace(manifest, files=files).check_files()


def test_another_layout_is_no_edit(manifest: EngineManifest) -> None:
    manifest.path.write_text(json.dumps(json.loads(manifest.path.read_text())))
    assert EngineManifest.read(manifest.path) == manifest


@pytest.mark.parametrize("kind", ["engine", "typed_onnx"])
def test_one_byte_of_another_file(manifest: EngineManifest, kind: str) -> None:
    path: Path = getattr(manifest, kind)
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="is not the file .* written for .* build the engine"):
        manifest.check_files()
    path.unlink()
    with pytest.raises(ManifestError, match=f"{path.name} is missing, {STEM}.json needs it"):
        manifest.check_files()


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist: build the engine again"):
        EngineManifest.read(tmp_path / "none.json")


def test_the_spec_is_no_manifest() -> None:
    with pytest.raises(ManifestError, match="is not the manifest of an engine"):
        EngineManifest.read(home.ZOO / "conv-cut-mini.spec.json")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": 2}', b"\x00\xff", b"[1, 2]"])
def test_what_is_no_manifest(manifest: EngineManifest, content: bytes) -> None:
    manifest.path.write_bytes(content)
    with pytest.raises(ManifestError):
        EngineManifest.read(manifest.path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_manifest(manifest: EngineManifest, kept: float) -> None:
    content = manifest.path.read_bytes()
    manifest.path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ManifestError, match="cannot be read"):
        EngineManifest.read(manifest.path)


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1])
def test_another_schema(manifest: EngineManifest, schema: int) -> None:
    reseal(manifest.path, {"schema": schema})
    with pytest.raises(ManifestError, match=f"schema {schema}, this version reads {SCHEMA}: build"):
        EngineManifest.read(manifest.path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("batch", [1, 4]),
        ("batch", [1, 4, "16"]),
        ("batch", [4, 2, 1]),
        ("batch", [0, 1, 1]),
        ("outputs", "logits"),
        ("precision", {}),
        ("precision", {**PRECISION, "asked": "fp12"}),
        ("precision", {**PRECISION, "stored": {"fp16": "all"}}),
        ("precision", {**PRECISION, "text": None}),
        ("versions", {}),
        ("sha256", {"engine": "0", "typed_onnx": 5, "onnx": "0"}),
        ("budgets", {"witnesses": "small"}),
        ("gates", [1]),
        *(("gates", [{**GATE, **change}]) for change in GATE_CHANGES),
        ("operations", "49"),
        ("spec", {}),
        ("spec", None),
        *(
            ("files", {"engine": name, "typed_onnx": "a.onnx"})
            for name in ("../evil.engine", "/evil.engine", "sub/evil.engine", "", "..")
        ),
        ("files", {}),
    ],
)
def test_a_forged_field_is_refused(manifest: EngineManifest, field: str, value: object) -> None:
    reseal(manifest.path, {field: value})
    with pytest.raises(ConvcutError, match=field):
        EngineManifest.read(manifest.path)


@pytest.mark.parametrize("suffix", [".json", ".engine", ".onnx"])
def test_an_engine_is_found_by_each_of_its_files(manifest: EngineManifest, suffix: str) -> None:
    assert find_manifest(manifest.path.parent / f"{STEM}{suffix}") == manifest.path


def test_a_file_without_a_manifest_is_no_engine(tmp_path: Path) -> None:
    for name in ("a.engine", "a.onnx"):
        with pytest.raises(ManifestError, match="does not exist: .* build it with"):
            find_manifest(tmp_path / name)
        (tmp_path / name).touch()
        with pytest.raises(ManifestError, match=r"has no manifest a\.json beside it"):
            find_manifest(tmp_path / name)


@pytest.mark.parametrize("suffix", [".json", ".engine", ".onnx"])
def test_an_engine_whose_name_no_file_can_have(suffix: str) -> None:
    with pytest.raises(ManifestError, match="give"):
        find_manifest(Path("a" * 300 + suffix))


@pytest.mark.parametrize("model", ["*", "conv-cut-mini", "conv*", "/a", "a**b", "[", "conv-cut"])
def test_the_name_of_a_model_is_no_pattern(manifest: EngineManifest, model: str) -> None:
    folder = manifest.path.parent
    for name in ("conv-cut-mini.spec.json", "conv-cut-mini.x.failed.json", "notes.json"):
        (folder / name).touch()
    found = manifests(folder, model)
    assert found == ([manifest.path] if model in ("*", "conv-cut-mini") else [])


@pytest.mark.parametrize("name", ["", ".", "/", "engine", "a.png"])
def test_what_cannot_be_an_engine(name: str) -> None:
    with pytest.raises(ManifestError, match="is no engine: give its .engine, its .onnx or"):
        find_manifest(Path(name))
