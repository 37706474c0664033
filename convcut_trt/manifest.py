"""EngineManifest: what makes an engine exist. Written last, checked before anything is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from convcut_trt.errors import ManifestError
from convcut_trt.fields import Fields, canonical, read_json, reading, sha256, write_json
from convcut_trt.gates import BUDGETS, Gate
from convcut_trt.spec import ModelSpec

SCHEMA = 2
STAND_IN = "onnxruntime-cpu (stand-in)"
_FIX = "build the engine again with `convcut-trt build`"
_SEAL = "manifest_sha256"
FAILED = ".failed.json"
"""Ends the name of the report that a failed build leaves."""
_OTHERS = (".spec.json", ".ranges.json", FAILED)


@dataclass(frozen=True)
class EngineManifest:
    """One engine: what it is, what it was built from and with, and how it did at the gates.

    Attributes:
        name: Of the model.
        precision: ``requested`` (by the user, may be ``auto``), ``asked`` (fp32, fp16 ...), ``stored`` and
            ``computed`` (share of the trunk's weight bytes and of multiply-adds by type), ``text`` (in words).
        flavour: Backend that built it and opens it.
        versions: Of builder, Python and this package.
        target: Key in ``devices.json``, empty for this machine.
        compute_capability: As ``8.9``; empty for a CPU.
        files: Names of ``engine`` and ``typed_onnx``, beside the manifest.
        sha256: Of ``engine``, ``typed_onnx``, ``onnx`` (the FP32 model) and ``ranges`` (null without INT8).
        outputs: Of the engine, in order.
        batch: Smallest, usual and largest batch.
        placement: Of the Q/DQ pairs; empty without INT8.
        mlp: Form of the MLPs, ``conv`` or ``linear``.
        tail: ``native``: inside the engine; ``kernel``: the engine ends at the map.
        operations: Device operations of the plan; null where it is not readable.
        budgets: The limits that the gates held it to.
        gates: Name, value, budget, verdict and detail of each.
        verdicts: A line for each precision that was compared: how fast, and whether it passed.
        judged_on: The faces of the gates.
        verified_on: Where the gates ran. ``STAND_IN`` for a device that was not there.
        build: Seconds, peak memory in bytes, and what else the builder told.
        date: UTC, ISO 8601.
        spec: The model's spec, so that the engine can be run from its own folder.
    """

    name: str
    precision: Mapping[str, Any]
    flavour: str
    versions: Mapping[str, Any]
    target: str
    compute_capability: str
    files: Mapping[str, Any]
    sha256: Mapping[str, Any]
    outputs: tuple[str, ...]
    batch: tuple[int, int, int]
    placement: str
    mlp: str
    tail: str
    operations: int | None
    budgets: Mapping[str, Any]
    gates: tuple[Mapping[str, Any], ...]
    verdicts: tuple[str, ...]
    judged_on: str
    verified_on: str
    build: Mapping[str, Any]
    date: str
    spec: ModelSpec
    path: Path = field(default=Path(), compare=False)

    @property
    def verified(self) -> bool:
        """Whether the gates ran on the engine itself, on a device of its kind."""
        return self.verified_on != STAND_IN

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates it failed at when it was verified again; a build with any is not published."""
        return tuple(str(gate["name"]) for gate in self.gates if gate.get("verdict") == "fail")

    @property
    def engine(self) -> Path:
        """The engine's file."""
        return self.path.parent / str(self.files["engine"])

    @property
    def typed_onnx(self) -> Path:
        """The typed ONNX the engine was built from."""
        return self.path.parent / str(self.files["typed_onnx"])

    @classmethod
    def read(cls, path: Path) -> EngineManifest:
        """Reads a manifest and checks its seal.

        Raises:
            ManifestError: Missing, not of this version, or edited by hand.
        """
        if path.name.endswith(_OTHERS):
            raise ManifestError(f"{path} is not the manifest of an engine; {_FIX}")
        found = read_json(path, SCHEMA, ManifestError, _FIX)
        values = dict(found.values)
        if _SEAL not in values:
            raise ManifestError(f"{path} is not the manifest of an engine; {_FIX}")
        seal = values.pop(_SEAL)
        if seal != hashlib.sha256(canonical(values)).hexdigest():
            raise ManifestError(
                f"{path} was edited by hand: its own hash does not match any more; {_FIX}"
            )
        return cls._from_fields(found, path)

    @classmethod
    def _from_fields(cls, values: Fields, path: Path) -> EngineManifest:
        batch = values.list_of("batch", int)
        if len(batch) != 3 or not 1 <= batch[0] <= batch[1] <= batch[2]:
            raise ManifestError(f"{path}: batch must be smallest, usual and largest; {_FIX}")
        files = values.get("files", dict)
        for file in ("engine", "typed_onnx"):
            name = str(files.get(file, ""))
            if name in ("", "..") or Path(name).name != name:
                raise ManifestError(f"{path}: files.{file} must be a plain file name; {_FIX}")
        spec = ModelSpec.from_fields(values.inside("spec"))
        if values.get("name", str) != spec.name:
            raise ManifestError(f"{path}: its spec is of {spec.name}; {_FIX}")
        return cls(
            name=spec.name,
            precision=_precision(values.inside("precision")),
            flavour=values.get("flavour", str),
            versions=_texts(values.inside("versions"), "builder"),
            target=values.get("target", str),
            compute_capability=values.get("compute_capability", str),
            files=files,
            sha256=_texts(values.inside("sha256"), "engine", "typed_onnx", "onnx"),
            outputs=values.list_of("outputs", str),
            batch=(batch[0], batch[1], batch[2]),
            placement=values.get("placement", str),
            mlp=values.get("mlp", str),
            tail=values.get("tail", str),
            operations=values.optional("operations", int),
            budgets=_numbers(values.inside("budgets")),
            gates=gates_of(values),
            verdicts=values.list_of("verdicts", str),
            judged_on=values.get("judged_on", str),
            verified_on=values.get("verified_on", str),
            build=values.get("build", dict),
            date=values.get("date", str),
            spec=spec,
            path=path,
        )

    def write(self, path: Path) -> None:
        """Writes the manifest with its seal, whole or not at all."""
        values = {"schema": SCHEMA, **asdict(self), "spec": self.spec.to_json()}
        del values["path"]
        values[_SEAL] = hashlib.sha256(canonical(values)).hexdigest()
        write_json(path, values)

    def check_files(self, *, engine: bool = True) -> None:
        """Makes sure that engine and typed ONNX are the ones this manifest was written for.

        Args:
            engine: False takes the engine's file as it is.

        Raises:
            ManifestError: A file is missing or has another hash.
        """
        for kind, path in (("engine", self.engine), ("typed_onnx", self.typed_onnx)):
            try:
                found = sha256(path)
            except (OSError, ValueError):  # ValueError: no file can be called so
                raise ManifestError(
                    f"{path} is missing, {self.path.name} needs it: {_FIX}"
                ) from None
            known = kind == "typed_onnx" or engine
            if known and found != self.sha256[kind]:
                raise ManifestError(
                    f"{path} is not the file that {self.path.name} was written for (other SHA-256): {_FIX}"
                )


def gates_of(values: Fields) -> tuple[Mapping[str, Any], ...]:
    """The list ``gates`` of a manifest or a report, every one with the fields of ``gates.Gate`` and no others.

    Raises:
        ConvcutError: Of the class of ``values``.
    """
    found = values.objects("gates")
    for gate in found:
        strange = gate.values.keys() - {field.name for field in fields(Gate)}
        if strange:
            raise gate.error(f"{gate.source}: {min(strange)!r} is no field of a gate; {_FIX}")
        for name in ("name", "verdict"):
            gate.get(name, str)
        gate.optional("detail", str)
        for name in ("value", "budget"):
            # What failed may have measured NaN or infinity, which are floats and not taken as such by get.
            if name not in gate.values or not isinstance(gate.values[name], float | None):
                gate.get(name, float)
    return tuple(gate.values for gate in found)


def _precision(values: Fields) -> Mapping[str, Any]:
    for name in ("stored", "computed"):
        _numbers(values.inside(name))
    if values.get("asked", str) not in BUDGETS:
        raise ManifestError(f"{values.source}: 'asked' is none of {', '.join(BUDGETS)}; {_FIX}")
    return _texts(values, "requested", "text")


def _texts(values: Fields, *names: str) -> Mapping[str, Any]:
    """An object of which some fields have to be there, as texts."""
    for name in names:
        values.get(name, str)
    return values.values


def _numbers(values: Fields) -> Mapping[str, Any]:
    """An object of numbers."""
    for name in values.values:
        values.get(name, float)
    return values.values


def now() -> str:
    """The time as manifests and reports give it: UTC, ISO 8601, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@reading(ManifestError)
def find_manifest(path: Path) -> Path:
    """The manifest of an engine given by its manifest, its ``.engine`` or its typed ``.onnx``.

    Raises:
        ManifestError: There is none: without a manifest a file is not an engine. Or it cannot be read.
    """
    if path.suffix not in (".json", ".engine", ".onnx"):
        raise ManifestError(f"{path} is no engine: give its .engine, its .onnx or its manifest")
    if not path.exists():
        raise ManifestError(
            f"{path} does not exist: give one that does, or build it with `convcut-trt build`"
        )
    manifest = path.with_suffix(".json")
    if not manifest.is_file():
        raise ManifestError(
            f"{path} has no manifest {manifest.name} beside it, so nothing of it is known: {_FIX}, or open it "
            "all the same with --trust MODEL"
        )
    return manifest


@reading(ManifestError)
def manifests(folder: Path, model: str = "*") -> list[Path]:
    """The manifests in a folder whose names start with a model's, by name; other JSON files of ours are none.

    Raises:
        ManifestError: The folder cannot be read.
    """
    start = "" if model == "*" else f"{model}."
    found = sorted(path for path in folder.glob("*.*.json") if path.name.startswith(start))
    return [path for path in found if not path.name.endswith(_OTHERS)]
