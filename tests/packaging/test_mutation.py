"""``make mutation`` fails where tests let too much live; mutmut itself is played by a script."""

import subprocess
from pathlib import Path

import pytest

from tests.test_packaging import ROOT

GOOD = {"gates": "kkkk", "precision.int8": "kkkks", "stats": "kkkkkkkks"}
STATES = {"k": "killed", "s": "survived", "t": "timeout", "n": "not checked", "u": "no tests"}


def mutation(folder: Path, run: int, modules: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The target, with an environment that is there and whose mutmut found this."""
    (folder / "bin").mkdir()
    lines = [
        f"    convcut_trt.{module}.x{'ǁGateǁ' if number % 2 else '_'}check__mutmut_{number}: {STATES[state]}\n"
        for module, states in modules.items()
        for number, state in enumerate(states)
    ]
    (folder / "found").write_text("".join(lines))
    mutmut = folder / "bin" / "mutmut"
    mutmut.write_text(f"#!/bin/sh\n[ $1 = run ] && exit {run}\ncat {folder}/found\n")
    mutmut.chmod(0o755)
    (folder / ".installed").touch()
    command = ["make", "mutation", f"VENV={folder}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("run", "changed", "right"),
    [
        (0, {}, True),
        (0, {"stats": "kkttk"}, True),  # one that never ends is seen
        (0, {"stats": "kkkks"}, True),
        (0, {"stats": "k" * 79 + "s" * 21}, False),
        (0, {"gates": "kkks", "stats": "k" * 1000}, False),  # each, not all together
        (0, {"precision.int8": "kkkkns"}, False),
        (0, {"precision.int8": "kkkuu"}, False),
        (0, {"gates": ""}, False),  # moved, and mutmut was not told
        (1, {}, False),
    ],
)
def test_less_than_four_of_five_killed_in_any_module_fails(
    run: int, changed: dict[str, str], right: bool, tmp_path: Path
) -> None:
    modules = {**GOOD, **changed}
    done = mutation(tmp_path, run, modules)
    assert (done.returncode == 0) is right, done.stdout + done.stderr
    if run == 0 and all(modules.values()):
        for module, states in modules.items():
            killed = sum(state in "kt" for state in states)
            assert f"convcut_trt.{module}: {killed} of {len(states)} killed" in done.stdout
        lived = [state for states in modules.values() for state in states if state not in "kt"]
        assert done.stdout.count("__mutmut_") == len(lived)


def test_without_any_mutant_it_fails(tmp_path: Path) -> None:
    assert mutation(tmp_path, 0, {}).returncode != 0
