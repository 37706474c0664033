"""What each extra is for, tried in an environment that has it: a few seconds each, outside the checkout."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from PIL import Image

from tests.packaging.environments import EXAMPLES, Environment
from tests.test_packaging import ROOT, run

PATIENCE_S = 60
COMPILE = """if True:
    from convcut_trt.gpu.nvrtc import compile_kernel, load_nvrtc
    print(load_nvrtc().nvrtcVersion()[1], compile_kernel("preprocess", (), (8, 7))[:4])
"""
LOOPBACK = """<CycloneDDS><Domain><General><AllowMulticast>false</AllowMulticast>
<Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces></General>
<Discovery><Tag>{tag}</Tag><Peers><Peer Address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""


def built(env: Environment, backend: str, *options: str) -> Path:
    """Builds an engine of the zoo model, and returns the folder that holds it alone."""
    engines = env.folder / f"engines-{backend}"
    if not engines.is_dir():
        few = ("--gate-pictures", "16", "-o", engines)
        env.cc("build", "--backend", backend, *(options or ("--precision", "fp32")), *few)
    return engines


def predicts(env: Environment, engines: Path) -> None:
    portrait = (EXAMPLES / "astronaut.png", "--box", "110,70,100,120")
    assert "happiness" in env.cc("predict", *portrait, "--engine", engines)


def pictures(env: Environment) -> Path:
    """A folder with three pictures that are a face."""
    folder = env.folder / "pictures"
    if not folder.is_dir():
        folder.mkdir()
        face = Image.open(EXAMPLES / "astronaut.png").convert("RGB").crop((110, 70, 210, 190))
        for number in range(3):
            face.save(folder / f"{number}.png")
    return folder


def loop(env: Environment, *options: object) -> str:
    """Runs the robot loop over these pictures."""
    engines = built(env, "onnxruntime")
    return env.cc(
        "run", pictures(env), "--engine", engines, "--detector", "whole", "--every", *options
    )


def hears(env: Environment, listener: tuple[object, ...], *to: object) -> None:
    """Another program prints a face's expression while the loop plays the pictures, as often as it takes."""
    built(env, "onnxruntime")
    with env.start(*listener, "--count", "1") as program:
        try:
            end = time.monotonic() + PATIENCE_S
            while program.poll() is None and time.monotonic() < end:
                loop(env, "--rate", "2", *to)
        finally:
            program.kill()
        assert program.stdout is not None
        assert program.stderr is not None
        # ROS4HRI calls it happy.
        said = program.stdout.read()
        assert "happiness" in said or "happy" in said, program.stderr.read()


def ort(env: Environment) -> None:
    predicts(env, built(env, "onnxruntime"))


def openvino(env: Environment) -> None:
    predicts(env, built(env, "openvino"))


def rtx(env: Environment) -> None:
    engines = built(env, "tensorrt-rtx", "--precision", "fp16", "--target", "rtx4060ti")
    (manifest,) = engines.glob("*.fp16.tensorrt-rtx.sm89.json")
    assert json.loads(env.cc("inspect", manifest, "--json"))


def cuda12(env: Environment) -> None:
    compiles(env, "12")


def cuda13(env: Environment) -> None:
    compiles(env, "13")


def compiles(env: Environment, major: str) -> None:
    """The kernels in the wheel, by NVRTC: what happens at first use on a GPU."""
    assert env.version("cuda-bindings").startswith(f"{major}.")
    assert env.script("-c", COMPILE).split() == [major, "b'\\x7fELF'"]


def jetson(env: Environment) -> None:
    """TensorRT is JetPack's, so all that can be had elsewhere is the CPU, and its name."""
    ort(env)
    said = env.refused("build", "--backend", "tensorrt")
    assert "convcut-trt[jetson]" in said
    assert "JetPack" in said


def faces(env: Environment) -> None:
    """The drawn clip: faces are found in it, and the annotated video is one."""
    engines, video = built(env, "onnxruntime"), env.folder / "annotated.mp4"
    clip = ("run", EXAMPLES / "faces.mp4", "--every", "--frames", "40", "--engine", engines)
    said = env.cc(*clip, "--detector", "haar", "--to", "stdout", "--to", video)
    frames = [json.loads(line) for line in said.splitlines()]
    assert len(frames) == 40
    assert any(frame["faces"] for frame in frames)
    count = (
        f"import cv2; print(int(cv2.VideoCapture({str(video)!r}).get(cv2.CAP_PROP_FRAME_COUNT)))"
    )
    assert env.script("-c", count).strip() == "40"


def mcap(env: Environment) -> None:
    recording = env.folder / "log.mcap"
    loop(env, "--to", recording)
    read = env.script(EXAMPLES / "robots" / "mcap_read.py", recording)
    assert read.count("happy") == 3
    engines = built(env, "onnxruntime")
    again = env.cc("run", recording, "--every", "--engine", engines, "--detector", "whole")
    assert len(again.splitlines()) == 3


def zenoh(env: Environment) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    end = f"tcp/127.0.0.1:{port}"
    listener = (EXAMPLES / "robots" / "zenoh_listen.py", "--listen", end)
    hears(env, listener, "--to", f"zenoh:robot/expressions?connect={end}")


def dds(env: Environment) -> None:
    tag = LOOPBACK.format(tag=env.folder)
    apart = Environment(env.folder, {**env.variables, "CYCLONEDDS_URI": tag})
    hears(apart, (EXAMPLES / "robots" / "dds_listen.py",), "--to", "dds:/humans/faces")


def lab(env: Environment) -> None:
    """In the checkout, whose ``export`` this extra is for: a recipe is trained and becomes an engine."""
    trained, models, engines = (env.folder / name for name in ("trained", "models", "engines"))
    drawn = ("--data", "synthetic:160")
    env.cc("train", "synthetic", *drawn, "--set", "training.epochs=1", "-o", trained, cwd=ROOT)
    env.cc("evaluate", trained / "model.safetensors", *drawn, cwd=ROOT)
    env.cc("export", trained / "model.safetensors", "-o", models, cwd=ROOT)
    plain = ("--backend", "onnxruntime", "--precision", "fp32")
    env.cc("build", models / "synthetic.onnx", *plain, "-o", engines)
    said = env.cc("predict", EXAMPLES / "astronaut.png", "--engine", engines, "--json")
    assert len(json.loads(said)["predictions"]) == 1


def dev(env: Environment) -> None:
    """In the checkout: its style and layering are checked, and tests of what needs no lab pass."""
    ruff = env.python.with_name("ruff")
    run([ruff, "check", "--quiet", "--no-cache", "convcut_trt"], ROOT)
    run([env.python.with_name("lint-imports"), "--no-logo", "--no-cache"], ROOT)
    files = ("fuzz/test_fuzzing.py", "robots/test_cdr.py", "robots/test_video.py")
    tests = [ROOT / "tests" / file for file in files]
    said = env.script("-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-rs", *tests)
    assert " passed" in said and "skipped" not in said


def peers(env: Environment) -> None:
    """In the checkout, whose ``bench`` this extra is for; torch is not needed to compare with what needs none."""
    engines, result = built(env, "onnxruntime"), env.folder / "against.json"
    few = ("--seconds", "0.05", "--openings", "8", "--batch", "1", "-o", result)
    env.cc("bench", engines, "--against", "fer", *few, cwd=ROOT)
    assert "fer" in result.read_text()


def pycuda(env: Environment) -> None:
    """Its modules load above a driver without a GPU, and the adapter then asks for cuda-bindings."""
    code = """if True:
        import pycuda.driver
        from convcut_trt.errors import BackendMissing
        from convcut_trt.gpu.pycuda_adapter import PycudaEngine
        from types import SimpleNamespace
        try:
            pycuda.driver.init()
        except pycuda.driver.Error as error:
            print(error)
        try:
            PycudaEngine(SimpleNamespace())
        except BackendMissing as error:
            print(error)
    """
    said = env.script("-c", code)
    assert "no CUDA-capable device" in said
    assert "cuda.bindings.driver is not installed" in said
