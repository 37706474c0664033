"""Evaluation: figures against ones worked out by hand, and the same ones from torch and from ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.errors import InputError, SpecError
from export import evaluate as module
from export.__main__ import main as lab
from export.evaluate import Classifier, evaluate, measure, open_classifier, predict
from export.to_onnx import export

# Four faces of classes 0, 0, 1, 2 of four; the third is taken for a 0.
PROBABILITIES = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2], [0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.8, 0.0]],
    np.float32,
)
LABELS = np.array([0, 0, 1, 2])
SHARES = np.array(
    [[0.6, 0.4, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.3, 0.7, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
    np.float32,
)


def test_the_figures_are_those_worked_out_by_hand() -> None:
    figures = measure(PROBABILITIES, LABELS, SHARES)
    assert figures["images"] == 4
    assert figures["accuracy"] == 0.75
    # Wilson: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    np.testing.assert_allclose(figures["accuracy_interval"], [0.30064, 0.95441], atol=1e-5)
    assert figures["recall"] == [1.0, 0.0, 1.0, None]
    assert figures["class_images"] == [2, 1, 1, 0]
    assert figures["balanced_accuracy"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == pytest.approx((0.8 + 0.0 + 1.0) / 3)
    assert figures["confusion"] == [[2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    nll = -np.log(np.array([0.7, 0.4, 0.3, 0.8])).mean()
    assert figures["nll"] == pytest.approx(nll, rel=1e-5)
    assert figures["ece"] == pytest.approx((0.3 + 0.6 + 0.5 + 0.2) / 4, abs=1e-5)
    # The last face has no vote that counts.
    assert figures["vote_agreement"] == pytest.approx((0.6 + 1.0 + 0.3) / 3)
    assert figures["vote_agreement_of_majority"] == pytest.approx((0.6 + 1.0 + 0.7) / 3)


def _classifier(classes: tuple[str, ...]) -> Classifier:
    """Answers with the grey level of a picture, as an index into its own classes."""
    return Classifier(
        Path("grey"),
        classes,
        lambda pictures: np.eye(len(classes), dtype=np.float32)[[p[0, 0] for p in pictures]],
    )


def _blank(classes: tuple[str, ...], levels: list[int], split: list[int]) -> Dataset:
    images = np.stack([np.full((8, 8), level, np.uint8) for level in levels])
    return dataset_from_arrays("blank", images, levels, classes, split)


def test_classes_are_matched_by_name() -> None:
    data = _blank(("a", "b", "c"), [0, 1, 2], [2, 2, 2])
    probabilities = predict(_classifier(("c", "a", "b")), data, np.arange(3))
    # Level 0 is answered with "c", the third of the data's classes.
    np.testing.assert_array_equal(probabilities.argmax(axis=1), [2, 0, 1])


def test_other_classes_are_refused_with_both_lists() -> None:
    data = _blank(("a", "b", "c"), [0, 1, 2], [2, 2, 2])
    with pytest.raises(InputError, match=r"a, b, d apart.*a, b, c"):
        predict(_classifier(("a", "b", "d")), data, np.arange(3))


def test_the_clean_set_leaves_out_what_training_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _blank(("a", "b", "c"), [0, 1, 2, 2], [0, 2, 2, 0])
    monkeypatch.setattr(module, "open_faces", lambda _: data)
    monkeypatch.setattr(module, "open_classifier", lambda _: _classifier(("a", "b", "c")))
    monkeypatch.setattr(module, "sha256", lambda _: "")
    report = evaluate(Path("grey"), "blank")
    assert (report["official"]["images"], report["clean"]["images"]) == (2, 1)
    with pytest.raises(InputError, match="no labelled validation faces"):
        evaluate(Path("grey"), "blank", "validation")


def test_torch_and_onnx_agree(run: Path, faces: Dataset, tmp_path: Path) -> None:
    export(run / "model.safetensors", tmp_path)
    rows = faces.subset("test")
    one = predict(open_classifier(run / "model.safetensors"), faces, rows)
    other = predict(open_classifier(tmp_path / "tiny.onnx"), faces, rows)
    assert one.shape == (20, 8)
    # In torch a grey network sees luma rounded to a byte, in the graph it is not rounded.
    np.testing.assert_allclose(one, other, atol=5e-3)


def test_the_verb_prints_a_table_or_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(run / "model.safetensors"), "--data", "synthetic:16"]
    assert lab([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["split"] == "test"
    assert sum(map(sum, report["clean"]["confusion"])) == report["clean"]["images"] == 8
    assert lab([*command, "--split", "validation"]) == 0
    out, err = capsys.readouterr()
    for text in ("accuracy", "95 % interval", "balanced accuracy", "surprise", "calibration error"):
        assert text in out
    assert "model.safetensors: 100%" in err


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
