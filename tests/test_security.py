"""What ``docs/security.md`` promises, and that each of its threats has a test."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from convcut_trt import backends, engine
from convcut_trt.cli import main
from convcut_trt.errors import ConvcutError, ManifestError
from convcut_trt.fields import canonical
from convcut_trt.home import ZOO
from convcut_trt.manifest import EngineManifest
from convcut_trt.ranges import Ranges
from convcut_trt.spec import ModelSpec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
PRODUCT = ("convcut_trt", "export", "calib", "bench")
ENGINE = "conv-cut-mini.fp16.onnxruntime"

# --- the page ---


def test_every_threat_names_tests_that_exist() -> None:
    threats = [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(line.split("|")[1]) for line in threats] == list(range(1, len(threats) + 1))
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    for line in threats:
        assert re.search(r"`tests/[\w/]+\.py::\w+`", line), line
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


# --- the code ---

_MODULES = frozenset(
    ("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib")
    + (
        "socket",
        "socketserver",
        "http",
        "urllib.request",
        "ftplib",
        "smtplib",
        "xmlrpc",
        "requests",
    )
    + ("telnetlib", "yaml", "pty", "code", "codeop", "jsonpickle")
    # These report to their makers, where `load` of convcut_trt.optional does not keep them from it.
    + ("onnxruntime", "openvino")
)
_CALLS = frozenset(
    ("eval", "exec", "__import__", "os.system", "os.popen", "subprocess.getoutput")
    + ("subprocess.getstatusoutput", "tempfile.mktemp", "torch.hub.load", "yaml.load")
)
_WITH = {
    "torch.load": ("weights_only", True),
    "load_state_dict": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
# bench.robot looks for free ports of this machine.
_ALLOWED = {("bench/robot.py", "socket")}


def dangers(source: str) -> Iterator[str]:
    """What runs data as code, starts a shell or reaches for the network, as the parser sees it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        for name in names:
            if name in _MODULES or name.split(".")[0] in _MODULES:
                yield name
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            if called in _CALLS or called == "import_module" and "socket" in ast.unparse(node):
                yield called
            if "shell" in given and given["shell"] is not False:
                yield "shell"
            if called in _WITH and given.get(_WITH[called][0]) is not _WITH[called][1]:
                yield called


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import http.client",
        "eval('1')",
        "exec(text)",
        "import os\nos.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=yes)",
        "yaml.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "def f():\n    if x:\n        import socket",
        "import onnxruntime",
        "from onnxruntime.quantization import calibrate",
    ],
)
def test_what_is_dangerous_is_seen(source: str) -> None:
    assert list(dangers(source))


def test_nothing_dangerous_is_in_the_code() -> None:
    harmless = "import json\nmodel.eval()\nre.compile('x')\nnp.load(path, allow_pickle=False)"
    assert not list(dangers(harmless))
    found = set()
    for package in PRODUCT:
        for file in (ROOT / package).rglob("*.py"):
            name = file.relative_to(ROOT).as_posix()
            found |= {(name, danger) for danger in dangers(file.read_text("utf-8"))}
    assert found == _ALLOWED


def test_every_exception_to_ruffs_security_rules_has_its_reason() -> None:
    found = 0
    for package in (*PRODUCT, "tests"):
        for file in (ROOT / package).rglob("*.py"):
            for line in file.read_text("utf-8").splitlines():
                if match := re.search(r"# noqa: S\d+(, S\d+)*(.*)", line):
                    assert len(match[2].split()) >= 2, f"{file}: {line}"
                    found += 1
    assert found


# --- what files may name ---


def reseal(path: Path, change: dict[str, Any]) -> None:
    """What a forger would do: change fields and make the seal fit."""
    values = {**json.loads(path.read_text()), **change}
    values.pop("manifest_sha256")
    values["manifest_sha256"] = hashlib.sha256(canonical(values)).hexdigest()
    path.write_text(json.dumps(values))


OUTSIDE = ("../secret", "/etc/passwd", "a/../../secret", "..", "folder/file", "")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("field", ["engine", "typed_onnx"])
def test_a_manifest_names_files_of_its_own_folder(name: str, field: str, own_engines: Path) -> None:
    path = own_engines / f"{ENGINE}.json"
    files = json.loads(path.read_text())["files"]
    reseal(path, {"files": {**files, field: name}})
    with pytest.raises(ManifestError):
        EngineManifest.read(path)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifests_model_is_no_path(name: str, own_engines: Path) -> None:
    path = own_engines / f"{ENGINE}.json"
    spec = json.loads(path.read_text())["spec"]
    reseal(path, {"name": name, "spec": {**spec, "name": name}})
    with pytest.raises(ConvcutError):
        EngineManifest.read(path)


@pytest.mark.parametrize("file", [name for name in OUTSIDE if name not in ("folder/file", "")])
def test_a_witness_lies_below_its_spec(file: str, tmp_path: Path) -> None:
    values = json.loads((ZOO / "conv-cut-mini.spec.json").read_text())
    values["witnesses"][0]["file"] = file
    (tmp_path / "x.spec.json").write_text(json.dumps(values))
    with pytest.raises(ConvcutError):
        ModelSpec.read(tmp_path / "x.spec.json")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_models_name_is_no_path(name: str, tmp_path: Path) -> None:
    for source, reader in (("spec", ModelSpec), ("ranges", Ranges)):
        values = json.loads((ZOO / f"conv-cut-mini.{source}.json").read_text())
        path = tmp_path / f"x.{source}.json"
        path.write_text(json.dumps({**values, "name": name}))
        with pytest.raises(ConvcutError):
            reader.read(path)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "weights.bin"])
def test_a_network_has_no_weights_in_other_files(
    location: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would not be in the hash by which a spec knows its network."""
    shutil.copytree(ZOO / "witnesses", tmp_path / "model" / "witnesses")
    path = tmp_path / "model" / "conv-cut-mini.onnx"
    model = onnx.load(ZOO / path.name)
    tensor = model.graph.initializer[0]
    for place in (path.parent, tmp_path):
        (place / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    onnx.save(model, path)
    values = json.loads((ZOO / "conv-cut-mini.spec.json").read_text())
    values["onnx_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".spec.json").write_text(json.dumps(values))
    build = ["build", str(path), "--backend", "onnxruntime", "-o", str(tmp_path / "out")]
    assert main(build) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*.json"))


@pytest.mark.parametrize("changed", ["engine", "manifest"])
def test_hashes_come_before_the_engine_is_opened(
    changed: str, own_engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    kind = type(backends.get("onnxruntime"))
    opens = kind.open

    def noted(*given: Any, **more: Any) -> Any:
        opened.append(given)
        return opens(*given, **more)

    monkeypatch.setattr(kind, "open", noted)
    engine.load(own_engines).close()
    assert len(opened) == 1
    path = own_engines / (f"{ENGINE}.onnx" if changed == "engine" else f"{ENGINE}.json")
    content = path.read_bytes()
    if changed == "engine":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.write_bytes(content.replace(b'"verified_on": "', b'"verified_on": "H200, '))
    for name in (own_engines / f"{ENGINE}.json", own_engines / f"{ENGINE}.onnx"):
        with pytest.raises(ManifestError):
            engine.load(name)
    assert len(opened) == 1


# --- what it stands on ---


@pytest.mark.slow
def test_no_dependency_has_a_known_hole(tmp_path: Path) -> None:
    pytest.importorskip("pip_audit", reason="pip install pip-audit")
    command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / "constraints.txt")]
    options = ["--no-deps", "--disable-pip", "-f", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
    if not done.stdout.strip():
        pytest.skip(f"PyPI's advisories cannot be reached: {done.stderr.strip()[-200:]}")
    packages = json.loads(done.stdout)["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        pytest.skip(
            f"PyPI answers for none of {len(packages)} packages: its advisories cannot be reached"
        )
    holes = {package["name"]: package["vulns"] for package in audited if package["vulns"]}
    assert not holes
