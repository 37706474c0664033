"""The verb explain: the numbers behind the figures, whose faces they may show, and the same bytes every time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from convcut_trt.datasets import Dataset, ferplus
from convcut_trt.errors import InputError
from export import embedding
from export.__main__ import main as lab
from export.data import normalise
from export.explain import class_distribution, explain, feature_planes
from export.portraits import portraits
from export.synthetic import CLASSES, render, render_set
from export.to_onnx import trained
from tests.export import tiny

STATISTICS = ("class-distribution.svg", "confusion.svg", "features.svg")


@pytest.fixture(scope="module")
def disguised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered faces in the form in which people have FERPlus: three splits of 64, one of 48 faces twice."""
    images, labels = render_set(128, 5, 48)
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    grey[100] = grey[0]
    votes = 10 * np.eye(10, dtype=np.uint8)[labels]
    path = tmp_path_factory.mktemp("data") / "ferplus.npz"
    usage = np.repeat([0, 1, 2], [48, 16, 64])
    names = np.array(ferplus.VOTE_NAMES)
    np.savez(path, images=grey, votes=votes, usage=usage, vote_names=names)
    return path


@pytest.fixture(scope="module")
def written(run: Path, disguised: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of figures of the tiny run on the disguised faces."""
    folder = tmp_path_factory.mktemp("figures") / "new"
    explain(run / "model.safetensors", folder, data=str(disguised))
    return folder


def test_the_numbers_are_those_of_the_data(written: Path) -> None:
    report = json.loads((written / "explain.json").read_text())
    assert report["schema"] == 1
    assert report["data"] == "FERPlus (npz)"
    figures = report["figures"]
    assert {figure["paper"] for figure in figures.values()} == {
        *("figure 1A", "figure 3", "figure 4", "figure 5")
    }
    counts = figures["class-distribution"]["numbers"]["images"]
    assert {name: sum(values) for name, values in counts.items()} == {
        "train": 48,
        "validation": 16,
        "test": 64,
        "clean test": 63,
    }
    confusion = figures["confusion"]["numbers"]
    assert np.array(confusion["official"]).sum(axis=1).tolist() == counts["test"]
    assert np.array(confusion["clean"]).sum(axis=1).tolist() == counts["clean test"]
    features = figures["features"]["numbers"]
    assert np.bincount(features["labels"]).tolist() == counts["clean test"]
    for depth in embedding.DEPTHS:
        assert np.shape(features["points"][depth]) == (63, 2)
        assert -1 <= features["scores"][depth]["silhouette"] <= 1
    faces = figures["grad-cam"]["numbers"]["faces"]
    assert [face["class"] for face in faces[:-1]] == list(CLASSES)
    assert faces[-1]["face"] == "astronaut"
    assert np.shape(faces[0]["maps"]["cut trunk"]) == (4, 4)  # 32 px behind a reduction of 8


def test_every_figure_is_a_drawing_that_loads_nothing(written: Path) -> None:
    for name in (*STATISTICS, "grad-cam.svg"):
        text = (written / name).read_text()
        assert ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314 our own drawing
        assert "currentColor" in text
        assert not re.search(r'(href|src)="(?!#|data:image/png;base64)', text)
        assert ("<image" in text) == (name == "grad-cam.svg")


def test_without_data_the_verb_draws_the_same_faces_and_prints_one_json_object(
    written: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab(["explain", str(run / "model.safetensors"), "-o", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "explain.json").read_text())
    assert "Grad-CAM" in err
    assert {path.name for path in tmp_path.iterdir()} == {"grad-cam.svg", "explain.json"}
    # Byte for byte the picture that was drawn beside data: none of their faces can be in it.
    assert (tmp_path / "grad-cam.svg").read_bytes() == (written / "grad-cam.svg").read_bytes()


def test_the_same_input_gives_the_same_bytes(
    written: Path, run: Path, disguised: Path, tmp_path: Path
) -> None:
    explain(run / "model.safetensors", tmp_path, data=str(disguised))
    for path in written.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def _folders(
    folder: Path,
    classes: tuple[str, ...],
    *,
    size: int = 64,
    modes: tuple[str, ...] = ("RGB",),
    name: str = "a.png",
) -> Path:
    """One rendered face in a folder for each class."""
    for label, kind in enumerate(classes):
        (folder / kind).mkdir(parents=True)
        picture = Image.fromarray(render(label, 3, size))
        for mode in modes:
            picture = picture.convert(mode)
        picture.save(folder / kind / name)
    return folder


def test_pictures_of_ones_own_are_drawn_where_they_are_named(tmp_path: Path) -> None:
    folder = _folders(tmp_path / "mine", ("anger", "fear", "joy"))
    shown = portraits(CLASSES, str(folder))
    assert [(portrait.name, portrait.label) for portrait in shown] == [("anger", 4), ("fear", 6)]
    np.testing.assert_array_equal(shown[1].pixels, render(1, 3, 64))


Place = Callable[[Path], Path]
BOTH = ("anger", "fear")
REFUSED: dict[str, Place] = {
    "FERPlus by its layout": lambda folder: folder / "ferplus.npz",
    "FERPlus by its name": lambda folder: _folders(folder / "FERPlus_small", BOTH),
    "FER2013 by its looks": lambda folder: _folders(folder / "x", BOTH, size=48, modes=("L",)),
    "FER2013 as RGB": lambda folder: _folders(folder / "x", BOTH, size=48, modes=("L", "RGB")),
    "RAF-DB by its files": lambda folder: _folders(
        folder / "x", BOTH, size=100, name="test_0001_aligned.jpg"
    ),
    "other classes": lambda folder: _folders(folder / "x", ("joy", "grief")),
    "nothing there": lambda folder: folder / "nowhere",
}


@pytest.mark.parametrize("place", REFUSED.values(), ids=REFUSED.keys())
def test_faces_of_others_are_never_drawn(place: Place, disguised: Path, tmp_path: Path) -> None:
    (tmp_path / "ferplus.npz").write_bytes(disguised.read_bytes())
    with pytest.raises(InputError):
        portraits(CLASSES, str(place(tmp_path)))


def test_rendered_faces_have_the_expressions_that_the_model_knows() -> None:
    shown = portraits(("surprise", "boredom", "anger"))
    assert [(p.name, p.label) for p in shown] == [
        ("surprise", 0),
        ("anger", 2),
        ("astronaut", None),
    ]


def test_the_three_depths_are_what_they_are_called(run: Path, faces: Dataset) -> None:
    model, plan, _ = trained(run / "model.safetensors")
    pixels = torch.randint(256, (70, 1, 32, 32), dtype=torch.uint8)
    images = normalise(pixels, plan.input)
    found = embedding.features(model, pixels, plan.input)
    with torch.inference_mode():
        head = model.tail.head(torch.from_numpy(found["Conv-cut"]))
        torch.testing.assert_close(head, model(images))
        pooled = model.trunk(images).mean(dim=(2, 3))
    torch.testing.assert_close(torch.from_numpy(found["truncated"]), pooled)
    torch.testing.assert_close(torch.from_numpy(found["baseline"]), images.flatten(1))


def test_attention_across_the_batch_mixes_no_neighbours_into_the_features() -> None:
    plan = tiny.recipe(**{"network.attention": "batch"})
    pixels = torch.randint(256, (9, 1, 32, 32), dtype=torch.uint8)
    model = tiny.network(plan)
    together = embedding.features(model, pixels, plan.input)["Conv-cut"]
    alone = embedding.features(model, pixels[4:5], plan.input)["Conv-cut"]
    np.testing.assert_allclose(together[4], alone[0], rtol=1e-5)


def test_scores_tell_parted_classes_from_mixed_ones() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    parted = (rng.normal(size=(120, 4)) + 20 * np.eye(4)[labels]).astype(np.float32)
    mixed = rng.normal(size=(120, 4)).astype(np.float32)
    good, bad = embedding.scores(parted, labels), embedding.scores(mixed, labels)
    assert good["silhouette"] > 0.8
    assert good["neighbours"] == 1.0
    assert abs(bad["silhouette"]) < 0.1
    assert bad["neighbours"] < 0.5
    plane = embedding.embed(parted)
    assert embedding.scores(plane, labels)["neighbours"] == 1.0


def test_few_faces_of_each_class_are_taken_and_always_the_same() -> None:
    labels = np.repeat([0, 1, 2], [500, 7, 30])
    chosen = embedding.balanced(labels, 20)
    assert np.bincount(labels[chosen]).tolist() == [20, 7, 20]
    np.testing.assert_array_equal(chosen, embedding.balanced(labels, 20))


def test_too_few_faces_for_a_tsne_are_named_with_the_split(run: Path, faces: Dataset) -> None:
    model, plan, _ = trained(run / "model.safetensors")
    with pytest.raises(InputError, match="has 0 clean test faces"):
        feature_planes(model, plan, _without_test(faces), "test")


def test_splits_without_images_are_left_out_of_the_distribution(faces: Dataset) -> None:
    numbers = class_distribution(_without_test(faces)).numbers
    assert list(numbers["images"]) == ["train", "validation"]


def _without_test(faces: Dataset) -> Dataset:
    split = np.where(faces.split == 2, 1, faces.split).astype(np.uint8)
    return Dataset("x", faces.classes, faces.images, split, faces.labels, faces.votes, faces.shares)


BAD: dict[str, list[str]] = {
    "no checkpoint": ["nowhere.safetensors"],
    "data of other classes": ["MODEL", "--data", "OTHER"],
    "no such split": ["MODEL", "--data", "OTHER", "--split", "validation"],
    "faces of FERPlus": ["MODEL", "--faces", "FERPLUS"],
    "a file in place of the folder": ["MODEL", "-o", "FERPLUS"],
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_bad_input_ends_with_a_sentence_and_without_figures(
    arguments: list[str],
    run: Path,
    disguised: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _folders(tmp_path / "other" / "test", ("joy", "grief"))
    names = {
        "MODEL": str(run / "model.safetensors"),
        "OTHER": str(tmp_path / "other"),
        "FERPLUS": str(disguised),
    }
    given = ["explain", "-o", str(tmp_path / "out")]
    assert lab([*given, *(names.get(part, part) for part in arguments)]) == 2
    assert capsys.readouterr().err.splitlines()[-2].startswith("convcut-trt: ")
    assert not list(tmp_path.glob("out/*.svg"))
