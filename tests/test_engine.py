"""Running engines: what ``load`` opens and refuses, and what ``Engine`` answers."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import convcut_trt as cc
from convcut_trt.cli import main
from convcut_trt.manifest import EngineManifest
from convcut_trt.preprocess import resize

ENGINE = "conv-cut-mini.fp16.onnxruntime"
BOX = (110.0, 70.0, 100.0, 120.0)
PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.png"


@pytest.fixture(scope="module")
def engine(engines: Path) -> cc.Engine:
    return cc.load(engines)


@pytest.fixture(scope="module")
def faces(engine: cc.Engine, engines: Path) -> np.ndarray:
    return engine.spec.witness_faces(engines)[0]


def test_predict_answers_one_row_a_face(engine: cc.Engine) -> None:
    prediction = engine.predict([PORTRAIT, str(PORTRAIT)], [BOX, None])
    assert len(prediction) == 2
    assert prediction.probabilities.shape == (2, 8)
    assert np.allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-5)
    assert prediction.labels[0] == engine.classes[int(prediction.logits[0].argmax())]


def test_a_picture_a_path_and_a_finished_face_give_the_same_answer(engine: cc.Engine) -> None:
    from convcut_trt.pictures import load_picture

    picture = load_picture(PORTRAIT)
    face = engine.spec.face(picture, BOX)
    by_path = engine.predict([PORTRAIT], [BOX]).probabilities
    assert np.array_equal(engine.predict([picture], [BOX]).probabilities, by_path)
    assert np.array_equal(engine.infer(face[None])["probabilities"], by_path)


def test_all_faces_of_a_frame_are_answered_as_one_by_one(engine: cc.Engine) -> None:
    from convcut_trt.pictures import load_picture

    picture = load_picture(PORTRAIT)
    boxes = [BOX, (120.0, 80.0, 90.5, 100.0)]
    expected = engine.predict([picture] * 2, boxes).probabilities
    np.testing.assert_allclose(
        engine.predict_frame(picture, boxes).probabilities, expected, atol=1e-6
    )
    swapped = np.ascontiguousarray(picture[..., ::-1])
    np.testing.assert_allclose(
        engine.predict_frame(swapped, boxes, "bgr8").probabilities, expected, atol=1e-6
    )
    assert len(engine.predict_frame(picture, [])) == 0
    wider = engine.predict_frame(picture, boxes, margin=0.2).probabilities
    assert not np.allclose(wider, expected)


def test_an_engine_without_a_manifest_is_opened_only_on_trust(
    own_engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_engines / f"{ENGINE}.onnx"
    with pytest.raises(cc.InputError, match="has a manifest"):
        cc.load(path, trust="conv-cut-mini")
    expected = cc.load(path).predict([PORTRAIT], [BOX]).probabilities
    path.with_suffix(".json").unlink()
    with pytest.raises(cc.ManifestError, match="--trust MODEL"):
        cc.load(path)
    with pytest.raises(cc.EngineMismatch, match="nothing of it is verified"):
        cc.load(path, trust="conv-cut-mini", require_verified=True)
    with pytest.raises(cc.InputError, match="there is no model"):
        cc.load(path, trust="nobody")
    with cc.load(path, trust="conv-cut-mini") as opened:
        assert not opened.verified
        assert np.array_equal(opened.predict([PORTRAIT], [BOX]).probabilities, expected)
    box = ",".join(str(int(part)) for part in BOX)
    command = [
        "predict",
        str(PORTRAIT),
        "--box",
        box,
        "--engine",
        str(path),
        "--trust",
        "conv-cut-mini",
    ]
    assert main(command) == 0
    assert "happiness" in capsys.readouterr().out
    (own_engines / "plan.engine").write_bytes(b"no plan at all")
    with pytest.raises(cc.ConvcutError):
        cc.load(own_engines / "plan.engine", trust="conv-cut-mini")


def test_a_channel_swap_is_visible(engine: cc.Engine, faces: np.ndarray) -> None:
    straight = engine.infer(faces)["map"]
    swapped = engine.infer(np.ascontiguousarray(faces[..., ::-1]))["map"]
    assert np.linalg.norm(straight - swapped) > 0.01 * np.linalg.norm(straight)


def test_grey_pictures_are_answered_as_grey_rgb(engine: cc.Engine) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(
        engine.predict([grey]).probabilities, engine.predict([colour]).probabilities
    )


def test_batches_above_the_profile_are_split_and_zero_faces_are_an_empty_answer(
    engine: cc.Engine, faces: np.ndarray
) -> None:
    assert engine.manifest.batch[2] == 16
    many = np.concatenate([faces, faces, faces[:5]])
    answers = engine.infer(many)
    alone = np.concatenate([engine.infer(face[None])["probabilities"] for face in many])
    assert np.allclose(answers["probabilities"], alone, atol=1e-5)
    empty = engine.infer(faces[:0])
    assert empty["probabilities"].shape == (0, 8)
    assert empty["map"].shape == (0, *engine.spec.map_shape)
    assert engine.predict([]).labels == []


@pytest.mark.parametrize("count", [3, 21])
def test_out_is_written_and_answers_belong_to_the_caller(
    engine: cc.Engine, faces: np.ndarray, count: int
) -> None:
    batch = np.concatenate([faces, faces])[:count]
    out = {"probabilities": np.full((count, 8), np.nan, np.float32)}
    answers = engine.infer(batch, out=out)
    assert answers["probabilities"] is out["probabilities"]
    kept = answers["probabilities"].copy()
    engine.infer(batch[::-1].copy())
    assert np.array_equal(answers["probabilities"], kept)
    assert np.array_equal(engine.infer(batch)["probabilities"], kept)


def test_threads_share_an_engine(engine: cc.Engine, faces: np.ndarray) -> None:
    expected = [engine.infer(face[None])["logits"] for face in faces]
    wrong: list[int] = []

    def work(start: int) -> None:
        for turn in range(40):
            row = (start + turn) % len(faces)
            if not np.array_equal(engine.infer(faces[row][None])["logits"], expected[row]):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_close_is_idempotent_and_final(engines: Path, faces: np.ndarray) -> None:
    with cc.load(engines / f"{ENGINE}.json") as engine:
        assert engine.verified
    engine.close()
    with pytest.raises(cc.InputError, match="closed"):
        engine.infer(faces)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (np.zeros((1, 48, 48, 3), np.float32), "uint8"),
        (np.zeros((1, 3, 48, 48), np.uint8), "predict"),
        (np.zeros((48, 48, 3), np.uint8), "N, 48, 48, 3"),
        (np.zeros((1, 47, 48, 3), np.uint8), "N, 48, 48, 3"),
    ],
)
def test_infer_refuses_what_is_no_batch(engine: cc.Engine, batch: np.ndarray, says: str) -> None:
    with pytest.raises(cc.InputError, match=says):
        engine.infer(batch)


def test_infer_refuses_an_out_of_the_wrong_shape(engine: cc.Engine, faces: np.ndarray) -> None:
    with pytest.raises(cc.InputError, match="float32"):
        engine.infer(faces, out={"logits": np.empty((1, 8), np.float32)})


@pytest.mark.parametrize(
    "faces",
    [
        "portrait.png",
        np.zeros((48, 48, 3), np.uint8),
        [np.zeros((48, 48, 4), np.uint8)],
        [np.zeros((0, 48, 3), np.uint8)],
        [np.zeros((48, 48, 3))],
        [None],
    ],
)
def test_predict_refuses_what_is_no_list_of_faces(engine: cc.Engine, faces: object) -> None:
    with pytest.raises(cc.InputError):
        engine.predict(faces)  # type: ignore[arg-type]


def test_predict_refuses_boxes_that_do_not_fit(engine: cc.Engine) -> None:
    with pytest.raises(cc.InputError, match="one box a face"):
        engine.predict([PORTRAIT], [])
    with pytest.raises(cc.InputError, match="outside"):
        engine.predict([PORTRAIT], [(5000.0, 0.0, 10.0, 10.0)])


def test_load_takes_the_newest_that_fits(
    own_engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EngineManifest.read(own_engines / f"{ENGINE}.json")
    newer = cc.EngineManifest(**{**vars(first), "date": "2099-01-01T00:00:00+00:00"})
    newer.write(own_engines / "conv-cut-mini.fp16.newer.json")
    monkeypatch.setenv("CONVCUT_HOME", str(own_engines))
    with cc.load("conv-cut-mini", precision="fp16") as engine:
        assert engine.manifest.date.startswith("2099")


def test_load_takes_no_engine_of_a_model_whose_name_goes_on(
    own_engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EngineManifest.read(own_engines / f"{ENGINE}.json")
    name = "conv-cut-mini.v2"
    other = replace(first, name=name, spec=replace(first.spec, name=name), date="2099-01-01")
    other.write(own_engines / f"{name}.fp16.onnxruntime.json")
    monkeypatch.setenv("CONVCUT_HOME", str(own_engines))
    for wanted in ("conv-cut-mini", name):
        with cc.load(wanted) as engine:
            assert engine.manifest.name == wanted
    with pytest.raises(cc.EngineMismatch, match="no engine of conv-cut in"):
        cc.load("conv-cut")


@pytest.mark.parametrize("name", ["/no/such/folder", "~/engines", "no/such/", "./conv-cut-mini"])
def test_load_of_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(cc.EngineMismatch, match="does not exist: give a folder of engines, or a"):
        cc.load(name)


@pytest.mark.parametrize("name", ["a" * 300, f"{'a' * 300}.json", f"{'a' * 300}.onnx", "a/" * 3000])
@pytest.mark.parametrize("trust", [None, "conv-cut-mini", "a" * 300])
def test_load_of_a_name_that_no_file_can_have(name: str, trust: str | None) -> None:
    with pytest.raises(cc.ConvcutError, match="give an"):
        cc.load(name, trust=trust)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"precision": "fp32"}, "fp32 was asked for"),
        ({"backend": "tensorrt-rtx"}, "tensorrt-rtx was asked for"),
    ],
)
def test_load_says_what_there_is_and_what_to_build(
    engines: Path, arguments: dict[str, str], says: str
) -> None:
    with pytest.raises(cc.EngineMismatch, match=says) as caught:
        cc.load(engines, **arguments)  # type: ignore[arg-type]
    assert "convcut-trt build" in str(caught.value)


def test_load_of_an_unbuilt_model_names_the_build_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path))
    with pytest.raises(cc.EngineMismatch, match="convcut-trt build conv-cut-mini"):
        cc.load("conv-cut-mini")


def test_a_stand_in_is_not_verified_and_can_be_refused(own_engines: Path) -> None:
    from convcut_trt.manifest import STAND_IN

    path = own_engines / f"{ENGINE}.json"
    manifest = EngineManifest.read(path)
    EngineManifest(**{**vars(manifest), "verified_on": STAND_IN}).write(path)
    with cc.load(path) as engine:
        assert not engine.verified
    with pytest.raises(cc.EngineMismatch, match="stand-in"):
        cc.load(path, require_verified=True)


def test_an_engine_for_hardware_that_is_not_here_says_so(own_engines: Path) -> None:
    from convcut_trt import backends

    path = own_engines / f"{ENGINE}.json"
    if backends.get("tensorrt-rtx").can_run() is None:
        pytest.skip("this machine runs TensorRT-RTX engines")
    manifest = EngineManifest.read(path)
    other = {"flavour": "tensorrt-rtx", "target": "rtx4060ti", "compute_capability": "8.9"}
    EngineManifest(**{**vars(manifest), **other}).write(path)
    with pytest.raises(cc.EngineMismatch, match="rtx4060ti") as caught:
        cc.load(path)
    assert "--backend onnxruntime" in str(caught.value)


def test_margin_and_crop_follow_the_spec(engine: cc.Engine) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    assert np.array_equal(
        engine.spec.face(picture, (30.0, 20.0, 40.0, 40.0)),
        resize(picture, 48, box=(30.0, 20.0, 70.0, 60.0)),
    )
