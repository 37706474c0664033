"""Nothing that a file, a wire or a command line holds does worse to us than be refused.

``pytest -m slow tests/fuzz`` looks for two minutes in each parser, or for CONVCUT_FUZZ_SECONDS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fuzz import command_line, json_files, lab_files, onnx_models, pictures, wire
from tests.fuzz.apart import Reader
from tests.fuzz.fuzzing import Target, fuzz

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

TARGETS: dict[str, Target] = {
    name: target
    for module in (json_files, lab_files, wire, pictures, onnx_models, command_line)
    for name, target in module.TARGETS.items()
}
SECONDS = float(os.environ.get("CONVCUT_FUZZ_SECONDS", "120"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(tmp_path_factory.mktemp("fuzz"))
    yield reader
    reader.close()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.few])
def test_a_few_inputs(name: str, reader: Reader) -> None:
    report = fuzz(TARGETS[name], reader)
    assert not report.found, str(report)
    assert sum(report.counts.values()) >= TARGETS[name].few // 2


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_for_minutes(name: str, reader: Reader) -> None:
    report = fuzz(TARGETS[name], reader, SECONDS)
    print(report)
    assert not report.found, str(report)
