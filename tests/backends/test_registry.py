import subprocess
import sys

import pytest

from convcut_trt import backends, optional
from convcut_trt.backends import tensorrt
from convcut_trt.backends.base import BuildOptions, Layer, computed_shares
from convcut_trt.devices import find, known, supported
from convcut_trt.errors import BackendMissing, InputError

NO_DRIVER = "no NVIDIA driver here"


def test_importing_the_backends_imports_no_library() -> None:
    heavy = "{'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'tensorrt_rtx', 'torch'}"
    code = f"import sys, convcut_trt.backends; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_gets_the_closest() -> None:
    with pytest.raises(InputError, match="Did you mean tensorrt-rtx.*Known: tensorrt, "):
        backends.get("tensorrt_rtx")


@pytest.mark.parametrize("name", backends.NAMES)
def test_a_backend_is_called_what_it_was_asked_for_by(name: str) -> None:
    assert backends.get(name).flavour == name


def test_auto_is_onnxruntime_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(tensorrt, "gpu", lambda: NO_DRIVER)
    assert backends.for_running().flavour == "onnxruntime"


def test_auto_says_of_each_why_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu", lambda: NO_DRIVER)
    for module in ("tensorrt", "tensorrt_rtx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendMissing) as caught:
        backends.for_running()
    for name in backends.NAMES:
        assert f"{name}: " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("tensorrt", "tensorrt", "jetson"),
        ("tensorrt-rtx", "tensorrt_rtx", "rtx"),
        ("onnxruntime", "onnxruntime", "ort"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    backend = backends.get(name)
    assert f"pip install 'convcut-trt[{extra}]'" in (backend.missing() or "")
    with pytest.raises(BackendMissing, match=module):
        backend.versions()


def test_a_package_that_lacks_its_own_dependency_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'its_own'", name="its_own")

    monkeypatch.setattr(optional, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="its_own"):
        optional.load("tensorrt_rtx", "rtx")


def test_a_package_whose_libraries_do_not_load_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(optional, "import_module", broken)
    assert "libnvinfer.so.10" in (backends.get("tensorrt").missing() or "")


def test_an_old_tensorrt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "8.5.2.2"

    monkeypatch.setattr(optional, "import_module", lambda name: Old)
    assert "8.5.2.2 is too old, 10.3" in (backends.get("tensorrt").missing() or "")


@pytest.mark.parametrize("name", ["rtx4060ti", "RTX 4060 Ti", "rtx_4060-ti"])
def test_a_device_is_found_however_it_is_written(name: str) -> None:
    assert find(name).sm == "sm_89"


def test_an_unknown_device_gets_the_closest() -> None:
    with pytest.raises(InputError, match="Did you mean rtx4060ti"):
        find("rtx4060it")


@pytest.mark.parametrize("name", ["jetson-nano", "xavier-nx"])
def test_an_unsupported_device_says_why(name: str) -> None:
    with pytest.raises(InputError, match="TensorRT 8"):
        find(name)


def test_every_device_is_of_a_known_flavour_and_has_a_source() -> None:
    for device in known().values():
        assert set(device.flavours) <= set(backends.NAMES)
        assert device.source
        assert device.flavours or device.note, "an unsupported device needs a reason"
    assert "h200" not in supported("tensorrt-rtx")


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 4, 2)])
def test_a_batch_profile_has_to_be_ordered(batch: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="MIN:OPT:MAX"):
        BuildOptions(batch=batch)


def test_shares_are_of_the_multiply_adds() -> None:
    layers = [Layer("a", "Conv", "fp16", 30), Layer("b", "Conv", "int8", 70), Layer("c", "x", "?")]
    assert computed_shares(layers) == {"int8": 0.7, "fp16": 0.3}
    assert computed_shares([]) == {}
