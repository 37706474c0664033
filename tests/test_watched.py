"""What a run does to files and the network, written down by ``tests/watcher.py`` in every process of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from convcut_trt import lab
from tests.calib import tiny
from tests.faults import material

ROOT = Path(__file__).parents[1]
ENGINE = "conv-cut-mini.fp16.onnxruntime"
PORTRAIT = ROOT / "examples" / "astronaut.png"
CLIP = ROOT / "examples" / "faces.mp4"


def watched(place: Path, *verbs: tuple[object, ...]) -> dict[str, set[str]]:
    """What was done by verbs, and by what they started, outside the folders that they may use."""
    (place / "site").mkdir(exist_ok=True)
    for name in ("home", "tmp", "here"):
        (place / name).mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "watcher.py", place / "site" / "sitecustomize.py")
    log = place / "log"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": os.pathsep.join((str(place / "site"), str(ROOT))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WATCHED_LOG": str(log),
    }
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, "-m", "convcut_trt", *map(str, verb)],
            env=environment,
            cwd=place / "here",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        left = [path.name for name in ("here", "tmp") for path in (place / name).iterdir()]
        # torch makes this one, for what it may compile, and leaves it
        assert not [name for name in left if not name.startswith("torchinductor_")], (verb, left)
    own = [place / "out", place / "tmp", place / "home" / ".cache", Path("/dev/null")]
    own.append(place / "home" / ".config" / "matplotlib")  # made by it, and left empty
    found: dict[str, set[str]] = {"network": set(), "process": set(), "write": set()}
    lines = log.read_text().splitlines()
    assert lines
    for kind, what in map(json.loads, lines):
        # One of them, or a folder on the way to it, which may have to be made.
        allowed = any(Path(what).is_relative_to(each) or each.is_relative_to(what) for each in own)
        if kind != "write" or not allowed:
            found[kind].add(what)
    return found


def check_quiet(found: dict[str, set[str]]) -> None:
    assert not found["network"]
    assert not found["write"]
    # ldconfig and the compilers are how Python finds shared libraries, fc-list is how matplotlib finds fonts; none
    # of these is a shell.
    known = {"git", "nvidia-smi", "ldconfig", "gcc", "cc", "ld", "fc-list"}
    known.add(Path(sys.executable).name)
    assert {Path(name).name for name in found["process"]} <= known


def test_the_watcher_sees(tmp_path: Path) -> None:
    code = (
        "import os, socket, subprocess, sys, pathlib\n"
        "pathlib.Path(sys.argv[1]).write_text('x'); os.rename(sys.argv[1], sys.argv[1] + '2')\n"
        "s = socket.socket(); s.settimeout(0.1)\n"
        "try: s.connect(('127.0.0.1', 9))\n"
        "except OSError: pass\n"
        "subprocess.run([sys.executable, '-c', 'open(\"below\", \"w\")'], cwd=os.path.dirname(sys.argv[1]))\n"
    )
    shutil.copy(ROOT / "tests" / "watcher.py", tmp_path / "sitecustomize.py")
    path = {"PYTHONPATH": str(tmp_path), "WATCHED_LOG": str(tmp_path / "log")}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "file"], env={**os.environ, **path}, check=True
    )
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    wanted = [
        ["write", str(tmp_path / "file")],
        ["write", str(tmp_path / "file2")],
        ["network", "('127.0.0.1', 9)"],
        ["process", sys.executable],
        ["write", str(tmp_path / "below")],
    ]
    assert all(entry in told for entry in wanted), told


def test_predict_stays_off_the_network_and_in_its_folders(tmp_path: Path, engines: Path) -> None:
    out = tmp_path / "out"
    verb = ("predict", PORTRAIT, "--engine", engines, "--draw", out / "drawn.png")
    check_quiet(watched(tmp_path, verb))
    assert (out / "drawn.png").is_file()


@pytest.mark.slow
def test_every_verb_of_the_robot_stays_off_the_network_and_in_its_folders(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    out = tmp_path / "out"
    verbs: list[tuple[object, ...]] = [
        ("build", "--backend", "onnxruntime", "-o", out),
        ("build", "--backend", "onnxruntime", "--precision", "fp32"),
        ("run", CLIP, "--engine", out, "--to", out / "run.mcap", "--to", "stdout"),
        ("run", CLIP, "--engine", out, "--to", out / "run.mp4"),
        ("verify", out / f"{ENGINE}.json"),
        ("inspect", out / f"{ENGINE}.json"),
        ("bench", out, "--seconds", "0.1"),
        ("doctor",),
    ]
    for name in ("openvino", "tensorrt_rtx"):
        if importlib.util.find_spec(name):
            target = ["--target", "rtx4060ti"] if name == "tensorrt_rtx" else []
            verbs.append(("build", "--backend", name.replace("_", "-"), *target, "-o", out))
    check_quiet(watched(tmp_path, *verbs))
    check_permissions(tmp_path)


@pytest.mark.slow
def test_every_verb_of_the_lab_stays_off_the_network_and_in_its_folders(tmp_path: Path) -> None:
    """With ``-o`` where it has to be given; without, results go beside the model or into the cache."""
    pytest.importorskip("torch")
    out = tmp_path / "out"
    run, engines, drawn = out / "run", out / "engines", ("--data", "synthetic:160")
    checkpoint, tiny_model = run / "model.safetensors", tiny.exported(out / "models").onnx
    few = ("--openings", "8", "--seconds", "0.05", "--batch", "1")
    verbs: list[tuple[object, ...]] = [
        ("train", "synthetic", *drawn, "--set", "training.epochs=1", "-o", run),
        ("evaluate", checkpoint, *drawn),
        ("export", checkpoint, "-o", out / "models"),
        ("ablate", checkpoint, *drawn, "--seeds", "1", "--epochs", "1"),
        ("explain", checkpoint, *drawn),
        ("calibrate", tiny_model, "--data", material.faces(tmp_path / "faces")),
        ("build", "--backend", "onnxruntime", "--precision", "fp32", "-o", engines),
        ("bench", engines, "--against", "onnxruntime", *few),
        ("report", "--figures", run / "explain", "-o", out / "report.html"),
    ]
    assert {verb for verb, *_ in verbs} >= lab.VERBS.keys()
    check_quiet(watched(tmp_path, *verbs))
    check_permissions(tmp_path)


def check_permissions(place: Path) -> None:
    """The cache is the user's own, and nobody else may change what was written."""
    cache = place / "home" / ".cache" / "convcut-trt"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    for path in (*cache.rglob("*"), *(place / "out").rglob("*")):
        assert not path.stat().st_mode & 0o022, path
