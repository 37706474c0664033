"""What ``docs/pictures.md`` says of unusual and harmful pictures, through every way in."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.cli import main
from convcut_trt.containers import bare
from convcut_trt.datasets import open_dataset
from convcut_trt.engine import Engine, load
from convcut_trt.errors import InputError
from convcut_trt.pictures import decode_picture, load_picture
from convcut_trt.robots.images import decompress
from convcut_trt.robots.messages import CompressedImage
from convcut_trt.sources import Pictures, as_frame
from convcut_trt.stream import Stream
from tests.hostile_files import Files, Pixels, exif, gradient, packed
from tests.hostile_read import READ
from tests.hostile_refused import REFUSED
from tests.robots.cases import STAMP

PAGE = (Path(__file__).parents[1] / "docs" / "pictures.md").read_text("utf-8")
NETWORK = ("PNG", "JPEG", "TIFF", "WEBP")
LOSSY = 3  # of 255: what JPEG changes of the flat pictures and of gradients in blocks


def rows(section: str) -> dict[str, str]:
    """The table under a heading of the page."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first: second for first, second in cells[2:]}


def says(row: str) -> re.Pattern[str]:
    """What the message of a refusal has to hold."""
    return re.compile("|".join(map(re.escape, re.findall("`(.*?)`", rows("Refused")[row]))))


@dataclass
class Cases:
    """All pictures of the tables in one folder: what comes out of each, or why it is refused."""

    folder: Path
    read: dict[Path, Pixels] = field(default_factory=dict)
    refused: dict[Path, re.Pattern[str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    found = Cases(tmp_path_factory.mktemp("pictures"))
    for name, write in READ.items():
        found.read.update(write(Files(found.folder, name)))
    for name, write_bad in REFUSED.items():
        found.refused.update((path, says(name)) for path in write_bad(Files(found.folder, name)))
    return found


@pytest.fixture(scope="module")
def engine(engines: Path) -> Iterator[Engine]:
    with load(engines) as opened:
        yield opened


def check_same(seen: NDArray[np.uint8], wanted: Pixels, path: Path) -> None:
    assert seen.shape == wanted.shape, path
    assert seen.dtype == np.uint8 and seen.flags.c_contiguous and seen.flags.writeable
    lossless = not path.read_bytes().startswith(b"\xff\xd8")
    most = np.abs(seen.astype(int) - wanted).max()
    assert most <= (0 if lossless else LOSSY), f"{path.name}: {most}"


def test_the_page_and_the_cases_have_the_same_rows() -> None:
    assert list(rows("Read")) == list(READ)
    assert list(rows("Refused")) == [*REFUSED, "no permission"]
    assert all("`" in text for text in rows("Refused").values())


@pytest.mark.parametrize("name", READ)
def test_read_as_the_page_says(name: str, tmp_path: Path) -> None:
    count = 0
    for path, wanted in READ[name](Files(tmp_path, name)):
        begun = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_same(load_picture(path), wanted, path)
        assert time.monotonic() - begun < 5, path
        count += 1
    assert count


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_the_page_says(name: str, tmp_path: Path) -> None:
    count = 0
    for path in REFUSED[name](Files(tmp_path, name)):
        begun = time.monotonic()
        with pytest.raises(InputError) as error:
            load_picture(path)
        assert time.monotonic() - begun < 5, path
        assert says(name).search(str(error.value)), error.value
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        count += 1
    assert count


@contextmanager
def nobody_special() -> Iterator[None]:
    """Root reads everything: where the tests run as root, they stop being it for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission(tmp_path: Path) -> None:
    path = Files(tmp_path, "secret").save("png", Image.fromarray(gradient()))
    path.chmod(0)
    with nobody_special(), pytest.raises(InputError, match=says("no permission")):
        load_picture(path)
    path.chmod(0o644)
    tmp_path.chmod(0)
    try:
        with nobody_special(), pytest.raises(InputError, match=says("no permission")):
            load_picture(path)
        with nobody_special(), pytest.raises(InputError, match="permissions"):
            Pictures(tmp_path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_cut_anywhere_it_is_refused_or_whole(format: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (24, 16, 3), np.uint8)
    picture = Image.fromarray(noise)
    more = [Image.new("RGB", (16, 24))]
    options: dict[str, dict[str, Any]] = {
        "PNG": {"exif": exif(6)},
        "JPEG": {"progressive": True, "exif": exif(6)},
    }
    moving: dict[str, Any] = {"save_all": True, "append_images": more}
    given = options.get(format, moving if format in ("GIF", "WEBP", "TIFF") else {})
    whole = packed(picture, format, **given)
    wanted = decode_picture(whole, "whole")
    refused = 0
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        try:
            np.testing.assert_array_equal(decode_picture(whole[:length], "cut"), wanted)
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", READ)
def test_damaged_bytes_give_pixels_or_an_input_error_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    generator = np.random.default_rng(1)
    for path, _ in READ[name](Files(tmp_path, name)):
        whole = np.frombuffer(path.read_bytes()[:20_000], np.uint8)
        for _ in range(4):
            broken = whole.copy()
            places = generator.integers(0, min(len(broken), 400), 6)
            broken[places] = generator.integers(0, 256, len(places))
            path.write_bytes(broken.tobytes())
            try:
                assert load_picture(path).shape[2] == 3
            except InputError as error:
                assert str(path) in str(error)


def test_from_a_topic_the_same_pictures_mean_the_same(cases: Cases) -> None:
    for path, wanted in cases.read.items():
        data = path.read_bytes()
        image = CompressedImage.decode(CompressedImage(STAMP, "", data).encode())
        found = bare(data)
        if found and found.format in NETWORK:
            check_same(decompress(image), wanted, path)
        else:
            with pytest.raises(InputError, match=says("no picture")):
                decompress(image)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_from_a_topic_the_same_pictures_are_refused(cases: Cases) -> None:
    count = 0
    for path, reason in cases.refused.items():
        if path.is_file() and 0 < path.stat().st_size < 1 << 30:
            with pytest.raises(InputError) as error:
                decompress(CompressedImage(STAMP, "jpeg", path.read_bytes()))
            foreign = path.suffix in (".gif", ".bmp", ".ppm")
            assert (says("no picture") if foreign else reason).search(str(error.value)), path
            count += 1
    assert count > 40


@pytest.mark.parametrize("format", ["16UC1; png compressed ", "32FC1; tiff compressed "])
def test_numbers_of_a_depth_camera_are_no_picture(format: str) -> None:
    data = packed(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG")
    with pytest.raises(InputError, match="colour or grey"):
        decompress(CompressedImage(STAMP, format, data))
    assert decompress(CompressedImage(STAMP, "mono16; png compressed ", data)).shape == (4, 4, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_engine_predict_answers_for_files_as_for_their_pixels(engine: Engine, cases: Cases) -> None:
    exact = {
        path: pixels
        for path, pixels in cases.read.items()
        if not path.read_bytes().startswith(b"\xff\xd8")
    }
    chosen = list(exact)[::7]
    answers = engine.predict(chosen).probabilities
    np.testing.assert_array_equal(
        answers, engine.predict([exact[path] for path in chosen]).probabilities
    )
    for path, reason in cases.refused.items():
        with pytest.raises(InputError) as error:
            engine.predict([chosen[0], path])
        assert reason.search(str(error.value)), path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_predict_is_one_sentence_for_each_refusal(
    engines: Path, cases: Cases, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: set[str] = set()
    for path, reason in cases.refused.items():
        if reason.pattern in seen:
            continue
        seen.add(reason.pattern)
        assert main(["predict", str(path), "--engine", str(engines)]) == 2, path
        said = capsys.readouterr()
        assert reason.search(said.err) and "Traceback" not in said.err
        assert not said.out
    good = [str(path) for path in list(cases.read)[::9]]
    assert main(["predict", *good, "--engine", str(engines), "--json"]) == 0
    answered = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["file"] for row in answered] == good


def test_a_name_that_is_no_text_is_answered(engines: Path, engine: Engine, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    Image.fromarray(gradient()).save(tmp_path / "plain.png")
    os.rename(tmp_path / "plain.png", folder + b"/\xff\xfe.png")
    command: list[Any] = [sys.executable, "-m", "convcut_trt", "predict"]
    command.append(folder + b"/\xff\xfe.png")
    done = subprocess.run(
        [*command, "--engine", engines],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 0, done.stderr
    assert "\N{REPLACEMENT CHARACTER}.png" in done.stdout.decode()
    (frame,) = (as_frame(item, 0) for item in Pictures(tmp_path))
    frame.frame_id.encode()
    assert frame.picture().shape == gradient().shape


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_folder_is_run_through_and_the_bad_ones_are_counted(engine: Engine, cases: Cases) -> None:
    (cases.folder / "._hidden.png").write_bytes(b"of macOS")
    (cases.folder / "notes.txt").write_text("no picture")
    seen: dict[Path, NDArray[np.uint8]] = {}
    with Stream(
        engine, Pictures(cases.folder), detector=lambda _: np.empty((0, 4)), newest=False
    ) as stream:
        for result in stream:
            seen[cases.folder / result.frame.frame_id] = result.picture
        health = stream.health()
    listed = [path for path in cases.refused if path.name != "notes.txt"]
    assert health.bad == len(listed)
    assert seen.keys() == cases.read.keys()
    for path, wanted in cases.read.items():
        check_same(np.array(seen[path]), wanted, path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_data_set_names_the_bad_ones_or_leaves_them_out(
    cases: Cases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("happiness", "neutral"):
        (tmp_path / name).mkdir()
    for number, path in enumerate([*cases.read, *cases.refused]):
        folder = tmp_path / ("happiness", "neutral")[number % 2]
        (folder / path.name).symlink_to(path)
    with pytest.raises(InputError, match=f"{len(cases.refused)} of .* pictures cannot be read"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, skip_corrupt=True)
    assert len(data) == len(cases.read) and len(data.skipped) == len(cases.refused)
    for number in range(len(data)):
        path = (tmp_path / data.image_name(number)).resolve()
        check_same(np.array(data.image(number)), cases.read[path], path)
    build = ["build", "--backend", "onnxruntime", "-o", str(tmp_path / "out")]
    assert main([*build, "--data", str(tmp_path)]) == 2
    assert "pictures cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*.json"))


_APART = """
import resource, sys, time
from PIL import Image
from convcut_trt.pictures import load_picture
Image.init()
for path in sys.argv[1:]:
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        load_picture(path)
    except Exception as error:
        print(error)
    took = time.monotonic() - begun
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{taken * 1024} {took:.6f}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "bmp", "jpg", "tif", "webp", "gif"])
def test_the_largest_picture_takes_less_than_a_gigabyte(kind: str, tmp_path: Path) -> None:
    size = (8_000, 5_000)
    path = tmp_path / f"large.{kind}"
    turned = exif(6)
    if kind == "png":
        Image.new("RGBA", size, (1, 2, 3, 4)).save(path, exif=turned, compress_level=1)
    elif kind == "bmp":
        Image.new("RGB", size).save(path)
    elif kind == "jpg":
        Image.new("CMYK", size).save(path, exif=turned, progressive=True)
    elif kind == "tif":
        Image.new("CMYK", size).save(path, exif=turned, compression="tiff_lzw")
    elif kind == "webp":
        Image.new("RGBA", size, (1, 2, 3, 4)).save(path, exif=turned, lossless=True, method=0)
    else:
        Image.new("P", size).save(path, transparency=0)
    command = [sys.executable, "-c", _APART, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, seconds = map(float, done.stdout.split())
    assert taken < 1e9
    assert seconds < 60


def test_harm_takes_no_memory(cases: Cases) -> None:
    chosen = [path for path in cases.read if path.name.startswith("harmful metadata")]
    chosen += [path for path in cases.refused if path.name.startswith("too ")]
    limit = 3_000_000_000  # of address space, libraries included

    def held() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", _APART, *map(str, chosen)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=held,  # noqa: PLW1509 it allocates nothing
    )
    lines = [line.split() for line in done.stdout.splitlines() if re.fullmatch(r"\d+ [\d.]+", line)]
    assert len(lines) == len(chosen)
    for path, (taken, _) in zip(chosen, lines, strict=True):
        assert float(taken) < 100e6, path.name
    # What is refused is refused for its own reason, not for the limit's.
    assert "MemoryError" not in done.stdout and "memory" not in done.stdout.lower()
