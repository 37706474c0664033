"""Data sets as people have them, written to disk: noise in FERPlus' three forms, RAF-DB, class folders."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from convcut_trt.datasets import ferplus

USAGE = ("Training", "PublicTest", "PrivateTest")


@dataclass(frozen=True)
class Fake:
    """Noise with votes: 12 training, 5 validation and 5 test images."""

    images: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.uint8]
    usage: npt.NDArray[np.uint8]


def make_fake() -> Fake:
    """The same noise each time, with what FERPlus has: no face, no votes, repeated pictures."""
    generator = np.random.default_rng(7)
    usage = np.repeat([0, 1, 2], [12, 5, 5]).astype(np.uint8)
    votes = generator.multinomial(10, [0.3, 0.3] + [0.05] * 8, len(usage)).astype(np.uint8)
    votes[3] = [0, 0, 0, 0, 0, 0, 0, 0, 10, 0]
    votes[[0, 13, 20]] = [8, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    images = generator.integers(0, 256, (len(usage), 48, 48), dtype=np.uint8)
    images[13] = images[0]  # validation 13 = train 0
    images[20] = images[12]  # test 20 = validation 12
    images[18] = images[19]  # twins within test
    return Fake(images, votes, usage)


def write_npz(path: Path, fake: Fake, **changes: object) -> Path:
    arrays = {"images": fake.images, "votes": fake.votes, "usage": fake.usage} | changes
    np.savez(
        path, allow_pickle=True, **{k: np.asarray(v) for k, v in arrays.items() if v is not None}
    )
    return path


def write_csv_pair(folder: Path, fake: Fake, *, header: str = "emotion,pixels,Usage") -> Path:
    """The two official files; a row without a face (no image name) stands after the second one."""
    names = [column.strip() for column in header.split(",")]
    with (folder / "fer2013.csv").open("w") as pixels, (folder / "fer2013new.csv").open("w") as new:
        pixels.write(header + "\n")
        new.write(",".join(["Usage", "Image name", *ferplus.VOTE_NAMES]) + "\n")
        for i, (image, votes) in enumerate(zip(fake.images, fake.votes, strict=True)):
            usage = USAGE[fake.usage[i]]
            cells = {"emotion": "0", "Usage": usage, "pixels": " ".join(map(str, image.flat))}
            pixels.write(",".join(cells[name] for name in names) + "\n")
            new.write(f"{usage},fer{i:07}.png," + ",".join(map(str, votes)) + "\n")
            if i == 1:
                cells["pixels"] = " ".join(["0"] * image.size)
                pixels.write(",".join(cells[name] for name in names) + "\n")
                new.write("Training,,0,0,0,0,0,0,0,0,0,10\n")
    return folder


def write_labels(folder: Path, fake: Fake, *, box: bool) -> Path:
    for code, name in enumerate(ferplus.FOLDERS):
        (folder / name).mkdir(parents=True)
        with (folder / name / "label.csv").open("w", newline="") as stream:
            for i in np.flatnonzero(fake.usage == code):
                middle = ["(0, 0, 48, 48)"] if box else []
                csv.writer(stream).writerow([f"fer{i:07}.png", *middle, *fake.votes[i]])
    return folder


def write_pngs(folder: Path, fake: Fake, *, box: bool = True) -> Path:
    write_labels(folder, fake, box=box)
    for i, image in enumerate(fake.images):
        name = ferplus.FOLDERS[fake.usage[i]]
        Image.fromarray(image).save(folder / name / f"fer{i:07}.png")
    return folder


def write_rafdb(folder: Path) -> Path:
    """Two pictures of each class in train, one in test, and a label list in no order."""
    (folder / "basic/EmoLabel").mkdir(parents=True)
    (folder / "basic/Image/aligned").mkdir(parents=True)
    lines = []
    for part, repeats in (("test", 1), ("train", 2)):
        for i in range(7 * repeats):
            stem, label = f"{part}_{i + 1:05}", i % 7 + 1
            lines.append(f"{stem}.jpg {label}\n")
            colour = (label * 30, i, 100 * (part == "test"))
            picture = Image.new("RGB", (100, 100), colour)
            picture.save(folder / f"basic/Image/aligned/{stem}_aligned.jpg")
    (folder / "basic/EmoLabel/list_patition_label.txt").write_text("".join(lines))
    return folder


def write_folders(folder: Path, *parts: str, classes: tuple[str, ...] = ("sad", "angry")) -> Path:
    for p, part in enumerate(parts):
        for c, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for i in range(c + 2):
                picture = Image.new("RGB", (10 + i, 8), (40 * p, 40 * c, i))
                picture.save(folder / part / name / f"{i}.png")
    return folder


def blobs(generator: np.random.Generator, side: int = 64) -> npt.NDArray[np.uint8]:
    """A picture like no other, uint8 [side, side]: smooth, with the 1/f spectrum of photographs."""
    parts = []
    for cells in (3, 6, 12, 24):
        noise = Image.fromarray(generator.integers(0, 256, (cells, cells), dtype=np.uint8))
        parts.append(np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC)) / cells)
    total = np.sum(parts, axis=0)
    scaled = 20 + 200 * (total - total.min()) / np.ptp(total)
    return np.asarray(scaled, dtype=np.uint8)
