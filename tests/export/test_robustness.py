"""Distortions do what their table says, the same for the same picture, and the report counts what they cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.stats import wilson
from export.classifier import Answers, Classifier, Picture
from export.robustness import DISTORTIONS, distort, robustness

KINDS = list(DISTORTIONS)
RANDOM = ("occlusion", "noise", "low light")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(48, 48), (20, 33, 3), (3, 2), (1, 1, 3)])
def test_every_picture_comes_back_in_its_own_shape(kind: str, shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    kept = picture.copy()
    for severity in DISTORTIONS[kind].severities:
        result = distort(picture, kind, severity, 5)
        assert result.dtype == np.uint8 and result.shape == shape
        np.testing.assert_array_equal(distort(picture, kind, severity, 5), result)
    np.testing.assert_array_equal(picture, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_severities_grow(kind: str, faces: Dataset) -> None:
    assert len(DISTORTIONS[kind].severities) == 5
    costs = [
        np.mean(
            [
                np.abs(
                    distort(faces.image(row), kind, severity, row) - faces.image(row).astype(float)
                )
                for row in range(12)
            ]
        )
        for severity in DISTORTIONS[kind].severities
    ]
    assert costs[0] > 0.5
    assert (np.diff(costs) > 0).all()


@pytest.mark.parametrize("kind", RANDOM)
def test_what_is_random_is_keyed_by_the_picture(kind: str) -> None:
    grey = np.full((48, 48), 120, np.uint8)
    severity = DISTORTIONS[kind].severities[0]
    assert (distort(grey, kind, severity, 1) != distort(grey, kind, severity, 2)).any()


def test_each_kind_does_what_its_table_says() -> None:
    grey = np.full((100, 100), 100, np.uint8)
    square = distort(grey, "occlusion", 0.3, 0) != 100
    assert square.sum() == 900
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    assert (len(rows), len(columns)) == (30, 30)
    assert len(np.unique(distort(grey, "occlusion", 0.3, 0)[square])) == 1

    point = np.zeros((101, 101), np.uint8)
    point[50, 50] = 255
    spread = distort(point, "blur", 0.02, 0)  # 2.02 pixels: 255 / (2 pi 2.02^2) at the middle
    assert spread[50, 50] == pytest.approx(255 / (2 * np.pi * 2.02**2), abs=0.6)

    assert distort(grey, "noise", 0.08, 0).std() == pytest.approx(0.08 * 255, rel=0.05)

    dark = distort(grey, "low light", 0.25, 0)
    assert dark.mean() == pytest.approx(25, rel=0.02)
    assert dark.std() == pytest.approx(5, rel=0.05)  # Poisson: the root of 25

    bar = np.zeros((101, 101), np.uint8)
    bar[:, 49:52] = 255
    sides = set()
    for row in range(20):
        turned = distort(bar, "rotation", 45, row)
        assert turned[50, 50] > 200
        sides.add((turned[30, 30] > 200, turned[30, 70] > 200))
    assert sides == {(True, False), (False, True)}

    np.testing.assert_array_equal(distort(point, "low resolution", 200, 0), point)
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.ptp(distort(stripes, "low resolution", 16, 0)) <= 1  # the mean of what it holds


def _bright(pictures: Sequence[Picture]) -> Answers:
    """Sure of the second class where a picture is bright."""
    light = np.array([picture.mean() > 100 for picture in pictures])
    probabilities = np.eye(2, dtype=np.float32)[light.astype(int)]
    return Answers(probabilities, probabilities)


def _faces(levels: list[int]) -> Dataset:
    images = np.stack([np.full((16, 16), level, np.uint8) for level in levels])
    return dataset_from_arrays("levels", images, [0, 1] * 10, ("dark", "bright"), [2] * 20)


def test_the_report_counts_what_the_model_gets_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    model = Classifier(Path("bright"), ("dark", "bright"), 1.0, 8, _bright)
    report = robustness(model, _faces([20, 180] * 10), np.arange(20), 1.0)
    assert list(report["kinds"]) == KINDS
    # 180 at exposures of 0.6 and 0.4 is 108 and 72.
    low_light = report["kinds"]["low light"]
    assert low_light["accuracy"] == [1.0, 0.5, 0.5, 0.5, 0.5]
    assert low_light["accuracy_interval"][1] == list(wilson(10, 20))
    assert low_light["mean"] == low_light["retained"] == pytest.approx(0.6)
    assert report["kinds"]["blur"]["accuracy"] == [1.0] * 5
    means = [entry["mean"] for entry in report["kinds"].values()]
    assert report["mean"] == pytest.approx(np.mean(means))
    assert json.loads(json.dumps(report)) == report
    assert "600/600" in capsys.readouterr().err


def test_nothing_is_retained_of_no_accuracy() -> None:
    model = Classifier(Path("bright"), ("dark", "bright"), 1.0, 8, _bright)
    report = robustness(model, _faces([180, 20] * 10), np.arange(20), 0.0)
    assert report["retained"] is report["kinds"]["blur"]["retained"] is None
