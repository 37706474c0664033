"""Evaluation from file to report: the same figures from torch and from ONNX, and what cannot be evaluated."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from scipy.special import softmax

from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.errors import InputError, SpecError
from convcut_trt.fields import sha256
from export import checkpoint
from export import evaluate as module
from export.__main__ import main as lab
from export.classifier import Answers, Classifier, Picture, open_classifier, predict
from export.evaluate import evaluate
from export.metrics import figures
from export.to_onnx import export

ABC = ("a", "b", "c")


def _classifier(classes: tuple[str, ...], scale: float = 1.0) -> Classifier:
    """Answers with the grey level of a picture, as an index into its own classes."""

    def answer(pictures: Sequence[Picture]) -> Answers:
        chosen = np.eye(len(classes), dtype=np.float32)[[picture[0, 0] for picture in pictures]]
        return Answers(scale * chosen, chosen)

    return Classifier(Path("grey"), classes, 1.0, 64, answer)


def _blank(
    classes: tuple[str, ...], levels: list[int], labels: list[int], split: list[int]
) -> Dataset:
    images = np.stack([np.full((8, 8), level, np.uint8) for level in levels])
    return dataset_from_arrays("blank", images, labels, classes, split)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Classifier, Dataset], None]:
    """Lets ``evaluate`` find this model and this data."""

    def use(model: Classifier, data: Dataset) -> None:
        monkeypatch.setattr(module, "open_faces", lambda _, skip_corrupt: data)
        monkeypatch.setattr(module, "open_classifier", lambda _: model)
        monkeypatch.setattr(module, "sha256", lambda _: "")

    return use


def test_classes_are_matched_by_name() -> None:
    data = _blank(ABC, [0, 1, 2], [0, 1, 2], [2, 2, 2])
    answers = predict(_classifier(("c", "a", "b")), data, np.arange(3))
    # Level 0 is answered with "c", the third of the data's classes.
    np.testing.assert_array_equal(answers.probabilities.argmax(axis=1), [2, 0, 1])
    np.testing.assert_array_equal(answers.logits, answers.probabilities)


@pytest.mark.parametrize("classes", [("a", "b", "d"), ("a", "b"), ("a", "b", "c", "d")])
def test_other_classes_are_refused_with_both_lists(classes: tuple[str, ...]) -> None:
    data = _blank(ABC, [0, 1, 2], [0, 1, 2], [2, 2, 2])
    with pytest.raises(InputError, match=f"{', '.join(classes)} apart.*a, b, c"):
        predict(_classifier(classes), data, np.arange(3))


def test_the_clean_set_leaves_out_what_training_has_seen(
    on: Callable[[Classifier, Dataset], None],
) -> None:
    on(_classifier(ABC), _blank(ABC, [0, 1, 2, 2], [0, 1, 2, 2], [0, 2, 2, 0]))
    report = evaluate(Path("grey"), "blank")
    assert (report["official"]["images"], report["clean"]["images"]) == (2, 1)


@pytest.mark.parametrize(
    ("split", "codes", "reason"),
    [
        ("validation", [0, 2, 2, 0], "too few different training pictures to hold some out"),
        (
            "validation",
            [2, 2, 2, 2],
            r"no labelled validation faces \(train 0, validation 0, test 4\)",
        ),
        ("test", [0, 0, 0, 2], "every test face of blank also occurs in an earlier split"),
        ("test", [0, 1, 1, 1], "no labelled test faces"),
    ],
)
def test_a_split_without_faces_of_its_own_is_refused(
    split: str, codes: list[int], reason: str, on: Callable[[Classifier, Dataset], None]
) -> None:
    on(_classifier(ABC), _blank(ABC, [0, 1, 2, 2], [0, 1, 2, 2], codes))
    with pytest.raises(InputError, match=reason):
        evaluate(Path("grey"), "blank", split)


def _first(pictures: Sequence[Picture]) -> Answers:
    """Answers every face with the first of eight classes."""
    logits = np.tile(np.eye(8, dtype=np.float32)[0], (len(pictures), 1))
    return Answers(logits, softmax(logits, axis=1))


def test_the_strict_set_leaves_out_what_is_nearly_the_same_too(
    on: Callable[[Classifier, Dataset], None], faces: Dataset
) -> None:
    train, test = faces.subset("train")[:4], faces.subset("test")[:3]
    brighter = np.clip(faces.stack(train[:1]).astype(int) + 12, 0, 255).astype(np.uint8)
    copy, own = faces.stack(train[1:2]), faces.stack(test)
    images = np.concatenate([faces.stack(train), brighter, copy, own])
    labels, splits = [0, 1, 2, 3, 1, 1, 0, 0, 1], [0] * 4 + [2] * 5
    on(
        Classifier(Path("first"), faces.classes, 1.0, 64, _first),
        dataset_from_arrays("near", images, labels, faces.classes, splits),
    )
    report = evaluate(Path("first"), "near")
    assert [report[name]["images"] for name in ("official", "clean", "strict")] == [5, 4, 3]
    assert report["strict"]["accuracy"] == pytest.approx(2 / 3)
    low, high = report["strict"]["accuracy_interval"]
    assert low < 2 / 3 < high


def test_nothing_is_said_of_a_strict_set_without_faces(
    on: Callable[[Classifier, Dataset], None],
    faces: Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train = faces.stack(faces.subset("train")[:2])
    brighter = np.clip(train.astype(int) + 12, 0, 255).astype(np.uint8)
    data = dataset_from_arrays(
        "near", np.concatenate([train, brighter]), [0, 1, 0, 1], faces.classes, [0, 0, 2, 2]
    )
    on(Classifier(Path("first"), faces.classes, 1.0, 64, _first), data)
    assert module.main(["first", "--data", "near"]) == 0
    assert "0 images, accuracy -\n" in capsys.readouterr().out


def test_data_without_validation_is_measured_on_what_training_holds_out(
    on: Callable[[Classifier, Dataset], None],
    faces: Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = faces.subset("train")
    rest = dataset_from_arrays(
        "rest", faces.stack(rows), faces.labels[rows], faces.classes, np.repeat([0, 2], 80)
    )
    held_out = rest.with_validation()
    on(Classifier(Path("first"), faces.classes, 1.0, 64, _first), rest)
    report = evaluate(Path("first"), "rest", "validation")
    counts = np.bincount(held_out.labels[held_out.subset("validation")], minlength=8)
    assert report["official"]["class_images"] == counts.tolist()
    assert "rest has no validation split" in capsys.readouterr().err
    chosen = evaluate(Path("first"), "rest", wanted=0.9)["selective"]
    assert chosen["validation_images"] == counts.sum()


def test_a_split_of_one_class_is_measured(on: Callable[[Classifier, Dataset], None]) -> None:
    on(_classifier(ABC), _blank(ABC, [1, 1, 2, 0], [1, 1, 1, 0], [2, 2, 2, 0]))
    clean = evaluate(Path("grey"), "blank")["clean"]
    assert clean["balanced_accuracy"] == clean["accuracy"] == pytest.approx(2 / 3)
    assert clean["class_images"] == [0, 3, 0]


def test_a_threshold_is_chosen_on_validation_and_applied_to_the_rest(
    on: Callable[[Classifier, Dataset], None],
) -> None:
    """Even pictures are answered surely and rightly, odd ones unsurely and, in one of two cases, wrongly."""
    levels, splits = list(range(160)), [1] * 80 + [2] * 80
    labels = [0 if level % 4 != 1 else 1 for level in levels]

    def answer(pictures: Sequence[Picture]) -> Answers:
        sure = np.array([0.9 if picture[0, 0] % 2 == 0 else 0.6 for picture in pictures])
        probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
        return Answers(np.log(probabilities), probabilities)

    model = Classifier(Path("half"), ("a", "b"), 1.0, 64, answer)
    on(model, _blank(("a", "b"), levels, labels, splits))
    report = evaluate(Path("half"), "blank", wanted=0.9)["selective"]
    assert report["threshold"] == pytest.approx(0.9)
    for name, images in (("validation", 80), ("official", 80), ("clean", 80)):
        assert report[name]["images"] == images
        assert (report[name]["coverage"], report[name]["accuracy"]) == (0.5, 1.0)
    assert evaluate(Path("half"), "blank", wanted=0.7)["selective"]["threshold"] == 0.0


def test_a_threshold_that_cannot_be_reached_is_said(
    on: Callable[[Classifier, Dataset], None], capsys: pytest.CaptureFixture[str]
) -> None:
    levels = list(range(100))
    labels = [0] * 80 + [1] * 20
    data = _blank(("a", "b"), levels, labels, [1, 2] * 50)

    def answer(pictures: Sequence[Picture]) -> Answers:
        probabilities = np.tile(np.array([0.8, 0.2], np.float32), (len(pictures), 1))
        return Answers(np.log(probabilities), probabilities)

    on(Classifier(Path("flat"), ("a", "b"), 1.0, 64, answer), data)
    report = evaluate(Path("flat"), "blank", wanted=0.95)["selective"]
    assert (report["threshold"], report["best"]) == (None, 0.8)
    assert module.main(["flat", "--data", "blank", "--selective", "0.95"]) == 0
    assert "95.0% is not reached" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [0.0, 1.0, 90.0, -0.5, math.nan])
def test_an_accuracy_to_reach_is_a_share(wanted: float) -> None:
    with pytest.raises(InputError, match="share between 0 and 1"):
        evaluate(Path("none"), "nowhere", wanted=wanted)


def test_a_threshold_is_not_tried_on_the_faces_that_chose_it() -> None:
    with pytest.raises(InputError, match="another split"):
        evaluate(Path("none"), "nowhere", "validation", wanted=0.9)


def test_torch_and_onnx_agree(run: Path, faces: Dataset, tmp_path: Path) -> None:
    export(run / "model.safetensors", tmp_path)
    rows = faces.subset("test")
    one = predict(open_classifier(run / "model.safetensors"), faces, rows)
    other = predict(open_classifier(tmp_path / "tiny.onnx"), faces, rows)
    assert one.probabilities.shape == one.logits.shape == (20, 8)
    # In torch a grey network sees luma rounded to a byte, in the graph it is not rounded.
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-2)
    np.testing.assert_allclose(one.logits, other.logits, atol=2e-2)


def test_the_temperature_of_a_checkpoint_divides_its_logits(
    run: Path, faces: Dataset, tmp_path: Path
) -> None:
    tensors, note = checkpoint.read(run / "model.safetensors")
    checkpoint.write(tmp_path / "warm.safetensors", tensors, note | {"temperature": 2.5})
    model, rows = open_classifier(tmp_path / "warm.safetensors"), faces.subset("test")
    answers = predict(model, faces, rows)
    expected = softmax(answers.logits / 2.5, axis=1)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-6)
    report = evaluate(tmp_path / "warm.safetensors", "synthetic:160")
    assert report["temperature"] == 2.5
    before = figures(softmax(answers.logits, axis=1), faces.labels[rows])
    assert report["official"]["before_temperature"]["ece"] == pytest.approx(before["ece"])
    assert report["official"]["ece"] == pytest.approx(
        figures(expected, faces.labels[rows])["ece"], abs=1e-5
    )


def test_a_graph_of_one_batch_size_is_evaluated_too(
    run: Path, faces: Dataset, tmp_path: Path
) -> None:
    export(run / "model.safetensors", tmp_path)
    rows, path = faces.subset("test"), tmp_path / "tiny.onnx"
    usual = predict(open_classifier(path), faces, rows)
    network = onnx.load(path)
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(network, path)
    written = json.loads((tmp_path / "tiny.spec.json").read_text())
    (tmp_path / "tiny.spec.json").write_text(json.dumps(written | {"onnx_sha256": sha256(path)}))
    fixed = predict(open_classifier(path), faces, rows)
    np.testing.assert_allclose(fixed.probabilities, usual.probabilities, atol=1e-5)


def test_the_verb_prints_a_table_or_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(run / "model.safetensors"), "--data", "synthetic:16"]
    everything = ["--selective", "0.9", "--robustness", "--batch-order"]
    assert lab([*command, *everything, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["split"] == "test" and report["skipped"] == []
    assert sum(map(sum, report["clean"]["confusion"])) == report["clean"]["images"] == 8
    assert len(report["clean"]["ece_interval"]) == 2
    assert report["clean"]["risk_coverage"]["curve"][-1]["coverage"] == 1
    assert report["selective"]["threshold"] is None  # eight faces are too few to choose by
    assert len(report["robustness"]["kinds"]) == 6
    assert report["batch_order"]["independent"]
    assert lab([*command, "--split", "validation", *everything[2:]]) == 0
    out, err = capsys.readouterr()
    for text in ("accuracy", "95 % interval", "balanced accuracy", "surprise", "calibration error"):
        assert text in out
    for text in ("low resolution", "does not change the answers"):
        assert text in out
    assert "model.safetensors: 100%" in err


def test_corrupt_pictures_are_left_out_only_when_asked(
    run: Path, faces: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in faces.subset("test"):
        folder = tmp_path / "test" / faces.classes[faces.labels[row]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(faces.image(int(row))).save(folder / f"{row}.png")
    broken = folder / "broken.png"
    broken.write_bytes(b"no picture")
    command = ["evaluate", str(run / "model.safetensors"), "--data", str(tmp_path)]
    assert lab(command) == 2
    assert "broken.png" in capsys.readouterr().err
    assert lab([*command, "--skip-corrupt"]) == 0
    assert "cannot be read: 1\n" in capsys.readouterr().out
    assert lab([*command, "--skip-corrupt", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"]["images"] == 20
    assert "broken.png" in report["skipped"][0]


def test_a_model_that_answers_nan_is_refused_with_its_reason(
    run: Path, faces: Dataset, tmp_path: Path
) -> None:
    tensors, note = checkpoint.read(run / "model.safetensors")
    tensors["tail.head.bias"][3] = math.nan
    checkpoint.write(tmp_path / "model.safetensors", tensors, note)
    with pytest.raises(InputError, match=r"tail\.head\.bias"):
        open_classifier(tmp_path / "model.safetensors")
    data = _blank(ABC, [0, 1, 2], [0, 1, 2], [2, 2, 2])
    with pytest.raises(InputError, match=r"answers blank\[0\] with NaN"):
        predict(_classifier(ABC, scale=math.nan), data, np.arange(3))


def test_what_is_no_model_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "lonely.onnx").write_bytes(b"x")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    for path, error in (
        (tmp_path / "lonely.onnx", SpecError),
        (tmp_path / "none.onnx", InputError),
        (tmp_path / "model.safetensors", InputError),
        (run / "run.json", InputError),
        (run / "state.safetensors", InputError),
    ):
        with pytest.raises(error):
            open_classifier(path)
