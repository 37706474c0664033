"""A user's mistakes: one sentence that names the fix, exit code 2 (1 for a failed check), no traceback."""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from convcut_trt.home import ZOO

PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.png"
ENGINE = "conv-cut-mini.fp16.onnxruntime"
MODEL = "conv-cut-mini"


@dataclass(frozen=True)
class Place:
    """Where a case works: a copy of the model, a copy of a good engine, and an empty folder."""

    root: Path
    engines: Path

    @property
    def model(self) -> Path:
        folder = self.root / "model"
        if not folder.exists():
            folder.mkdir()
            for file in (f"{MODEL}.onnx", f"{MODEL}.spec.json"):
                shutil.copy(ZOO / file, folder / file)
            shutil.copytree(ZOO / "witnesses", folder / "witnesses")
        return folder / f"{MODEL}.onnx"

    @property
    def spec(self) -> Path:
        return self.model.with_suffix(".spec.json")

    def write(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        return path


@pytest.fixture
def place(own_engines: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, own_engines)


Case = Callable[[Place], list[object]]


def build(place: Place, model: object, *more: object) -> list[object]:
    return ["build", model, "--backend", "onnxruntime", "-o", place.root / "out", *more]


def truncated(place: Place) -> list[object]:
    content = place.model.read_bytes()
    place.model.write_bytes(content[: len(content) // 2])
    values = json.loads(place.spec.read_text())
    values["onnx_sha256"] = hashlib.sha256(place.model.read_bytes()).hexdigest()
    place.spec.write_text(json.dumps(values))
    return build(place, place.model)


def another_network(place: Place) -> list[object]:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["data"], ["scores"])],
        "other",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, place.model)
    values = json.loads(place.spec.read_text())
    values["onnx_sha256"] = hashlib.sha256(place.model.read_bytes()).hexdigest()
    place.spec.write_text(json.dumps(values))
    return build(place, place.model)


def spec_of_another(place: Place) -> list[object]:
    values = json.loads(place.spec.read_text())
    values["onnx_sha256"] = "0" * 64
    place.spec.write_text(json.dumps(values))
    return build(place, place.model)


def spec_with_other_classes(place: Place) -> list[object]:
    values = json.loads(place.spec.read_text())
    values["classes"] = values["classes"][:-1]
    for witness in values["witnesses"]:
        witness["probabilities"] = witness["probabilities"][:-1]
    place.spec.write_text(json.dumps(values))
    return build(place, place.model)


def spec_missing(place: Place) -> list[object]:
    place.spec.unlink()
    return build(place, place.model)


def spec_broken(place: Place) -> list[object]:
    place.spec.write_text("{")
    return build(place, place.model)


def witness_gone(place: Place) -> list[object]:
    next((place.model.parent / "witnesses").iterdir()).unlink()
    return build(place, place.model)


def output_below_a_file(place: Place) -> list[object]:
    blocked = place.write("file", b"")
    return ["build", "--backend", "onnxruntime", "-o", blocked / "out"]


def manifest_edited(place: Place) -> list[object]:
    path = place.engines / f"{ENGINE}.json"
    path.write_text(path.read_text().replace('"verified_on": "', '"verified_on": "H200, '))
    return ["predict", PORTRAIT, "--engine", path]


def manifest_gone(place: Place) -> list[object]:
    (place.engines / f"{ENGINE}.json").unlink()
    return ["predict", PORTRAIT, "--engine", place.engines / f"{ENGINE}.onnx"]


def engine_changed(place: Place) -> list[object]:
    path = place.engines / f"{ENGINE}.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    return ["predict", PORTRAIT, "--engine", place.engines / f"{ENGINE}.json"]


def picture(content: bytes, name: str = "face.png") -> Case:
    return lambda place: ["predict", place.write(name, content), "--engine", place.engines]


def engine(name: str, *verb: object) -> Case:
    return lambda place: [*(verb or ("predict", PORTRAIT)), "--engine", name]


def claims_to_be_huge() -> bytes:
    """A PNG of 1 x 1 whose header says 60,000 x 60,000."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, format="PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


CASES: dict[str, tuple[Case, str]] = {
    "no such model": (lambda place: build(place, "no-such-model"), "zoo name"),
    "no such file": (lambda place: build(place, "missing.onnx"), "does not exist"),
    "wrong extension": (lambda place: build(place, place.write("model.pt", b"x")), ".onnx"),
    "folder without a model": (lambda place: build(place, place.engines.parent), "name the .onnx"),
    "truncated ONNX": (truncated, "export or copy it again"),
    "another network": (another_network, "convcut-trt export"),
    "spec of another model": (spec_of_another, "does not belong"),
    "spec with other classes": (spec_with_other_classes, "export the model again"),
    "spec missing": (spec_missing, "convcut-trt export"),
    "spec broken": (spec_broken, "convcut-trt export"),
    "witness gone": (witness_gone, "witness"),
    "unknown precision": (lambda place: build(place, MODEL, "--precision", "fp12"), "fp32, fp16"),
    "unknown target": (
        lambda place: ["build", "--target", "rtx4060x", "-o", place.root / "out"],
        "rtx4060",
    ),
    "unsupported target": (
        lambda place: ["build", "--target", "jetson-nano", "-o", place.root / "out"],
        "not supported",
    ),
    "target of a backend that has none": (
        lambda place: build(place, MODEL, "--target", "rtx4060ti"),
        "leave out --target",
    ),
    "unknown backend": (lambda place: ["build", "--backend", "tensorflow"], "onnxruntime"),
    "unknown budget": (lambda place: build(place, MODEL, "--budget", "speed=1"), "loss_median"),
    "budget of no number": (
        lambda place: build(place, MODEL, "--budget", "flips=many"),
        "KEY=VALUE",
    ),
    "batch upside down": (lambda place: build(place, MODEL, "--batch", "4:2:1"), "MIN:OPT:MAX"),
    "no gate data": (lambda place: build(place, MODEL, "--data", "nowhere"), "nowhere"),
    "output below a file": (output_below_a_file, "-o"),
    "manifest edited by hand": (manifest_edited, "edited by hand"),
    "manifest gone": (manifest_gone, "no manifest"),
    "one byte of the engine changed": (engine_changed, "SHA-256"),
    "no such picture": (lambda place: ["predict", "x.png", "--engine", place.engines], "x.png"),
    "empty picture": (picture(b""), "empty"),
    "no picture": (picture(b"hello, this is text"), "face.png"),
    "random bytes": (picture(bytes(range(256)) * 8), "face.png"),
    "truncated picture": (picture(PORTRAIT.read_bytes()[:5000]), "face.png"),
    "claims 60,000 x 60,000": (picture(claims_to_be_huge()), "40 million"),
    "box outside": (
        lambda place: ["predict", PORTRAIT, "--engine", place.engines, "--box", "900,0,10,10"],
        "outside",
    ),
    "box of no area": (
        lambda place: ["predict", PORTRAIT, "--engine", place.engines, "--box", "1,1,0,9"],
        "no area",
    ),
    "box of no numbers": (
        lambda place: ["predict", PORTRAIT, "--engine", place.engines, "--box", "face"],
        "X,Y,W,H",
    ),
    "drawing that is no picture": (
        lambda place: [
            "predict",
            PORTRAIT,
            "--engine",
            place.engines,
            "--draw",
            place.root / "x.y",
        ],
        "--draw",
    ),
    "one drawing for two pictures": (
        lambda place: [
            *("predict", PORTRAIT, PORTRAIT, "--engine", place.engines),
            *("--draw", place.root / "x.png"),
        ],
        "folder",
    ),
    "engines of no folder": (engine("/no/such/folder"), "give a folder of engines, or a model's"),
    "engines of a home": (engine("~/engines"), "~/engines does not exist"),
    "engines of no folder, run": (engine("no/such", "run", PORTRAIT.parent), "does not exist"),
    "engines of no folder, bench": (lambda place: ["bench", "/no/such/folder"], "does not exist"),
    "engines of no folder, --against": (
        lambda place: ["bench", place.engines, "--against", "/no/such/folder"],
        "neither an engine",
    ),
    "a pattern for an engine": (engine("a**b"), "no engine of a**b in"),
    "a long name for an engine": (engine("a" * 300), "give another path"),
    "a long name for an engine's file": (engine("a" * 300 + ".json"), "give another path"),
    "a long name for a model": (lambda place: build(place, "a" * 300), "give another path"),
    "a long name to inspect": (lambda place: ["inspect", "a" * 300], "give another path"),
    "a long name to trust": (
        lambda place: [*engine("a" * 300 + ".onnx")(place), "--trust", MODEL],
        "give another path",
    ),
    "a long name to draw to": (
        lambda place: ["predict", PORTRAIT, "--engine", place.engines, "--draw", "a" * 300],
        "--draw",
    ),
    "inspecting nothing": (
        lambda place: ["inspect", place.root / "nothing.onnx"],
        "does not exist",
    ),
    "inspecting a picture": (lambda place: ["inspect", PORTRAIT], "no file of convcut-trt"),
    "unknown verb": (lambda place: ["biuld"], "invalid choice"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_sentence_that_names_the_fix(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from convcut_trt.cli import main

    case, says = CASES[name]
    arguments = [str(argument) for argument in case(place)]
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    said = capsys.readouterr()
    assert code == 2, said.err
    assert says in said.err
    assert "Traceback" not in said.err
    assert not (place.root / "out").exists() or not list((place.root / "out").glob("*.json"))


@pytest.mark.parametrize("name", ["truncated ONNX", "claims 60,000 x 60,000", "unknown target"])
def test_in_json_the_mistake_is_one_object(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from convcut_trt.cli import main

    case, says = CASES[name]
    assert main([*(str(argument) for argument in case(place)), "--json"]) == 2
    assert says in json.loads(capsys.readouterr().out)["text"]


def test_as_a_process_there_is_no_traceback_either(place: Place) -> None:
    arguments = [str(argument) for argument in engine_changed(place)]
    command = [sys.executable, "-m", "convcut_trt"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 3  # what is taken for the face, the mistake, its page
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("size", [(1, 1), (10_000, 3), (3, 10_000)])
def test_pictures_of_odd_sizes_are_answered(
    size: tuple[int, int], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    from convcut_trt.cli import main

    path = place.root / "odd.png"
    Image.new("RGB", size, "white").save(path)
    assert main(["predict", str(path), "--engine", str(place.engines)]) == 0
    assert "odd.png" in capsys.readouterr().out


def test_a_missing_library_is_named_with_its_extra(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convcut_trt.cli import main

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert main(["build", "--target", "rtx4060ti", "-o", str(place.root / "out")]) == 2
    assert "pip install 'convcut-trt[rtx]'" in capsys.readouterr().err
