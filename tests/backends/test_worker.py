"""What can happen to the builder's process, with small scripts in its place."""

import json
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from convcut_trt.backends import worker
from convcut_trt.backends.base import no_progress
from convcut_trt.backends.trt_build import Fraction, Request
from convcut_trt.errors import BuildError, InputError

REQUEST = Request("tensorrt-rtx", "/none.onnx", (1, 1, 1), ((8, 9),), None).to_json()
# The real child with a builder that tells its process id as the phase, and then never ends.
HANGING_CHILD = dedent("""
    import os, time
    from convcut_trt.backends import child
    def build(request, progress):
        progress(str(os.getpid()), 0, 1)
        time.sleep(600)
    child.build = build
    child.main()
""")


def run(
    monkeypatch: pytest.MonkeyPatch, script: str, timeout_s: float | None = 60
) -> worker.Outcome:
    monkeypatch.setattr(worker, "_command", lambda: [sys.executable, "-c", dedent(script)])
    return worker.build_apart("TensorRT-RTX", REQUEST, no_progress, timeout_s)


def ended(process: int) -> bool:
    """Whether a process is gone, or only waits for somebody to ask how it went."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.abort()", r"crashed \(SIGABRT\) while starting"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory ran out: close"),
        ("raise SystemExit(7)", "ended with code 7 while starting, without an engine"),
        ("", "ended with code 0 while starting, without an engine"),
        ('print(\'{"version": "1", "engine": 99}\')', "without an engine"),
        ('print(\'{"phase": "parsing", "done\', end="")', "without an engine"),
    ],
)
def test_a_death_is_one_sentence(monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    with pytest.raises(BuildError, match=said) as caught:
        run(monkeypatch, script)
    assert str(caught.value).startswith("TensorRT-RTX ")


def test_the_phase_and_the_log_ride_along(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        import os, sys
        print('{"phase": "Timing graph nodes", "done": 1, "total": 2}', flush=True)
        print("a last word", file=sys.stderr, flush=True)
        os.abort()
    """
    with pytest.raises(BuildError, match="while Timing graph nodes") as caught:
        run(monkeypatch, script)
    assert "a last word" in caught.value.log


def test_an_error_keeps_its_class_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.dumps({"error": "no such thing: do that", "kind": "InputError"})
    with pytest.raises(InputError, match="^no such thing: do that$"):
        run(monkeypatch, f"print({report!r})")


def test_a_python_error_in_the_child_is_a_build_error(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        from convcut_trt.backends import child
        child.build = lambda request, progress: 1 / 0
        child.main()
    """
    with pytest.raises(BuildError, match="ZeroDivisionError") as caught:
        run(monkeypatch, script)
    assert "Traceback" in caught.value.log


def test_what_native_code_prints_goes_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        import os
        from convcut_trt.backends import child
        def build(request, progress):
            os.write(1, b"printed by a library\\n")
            return {"version": "1"}, memoryview(b"{engine}" * 100_000)
        child.build = build
        child.main()
    """
    outcome = run(monkeypatch, script)
    assert outcome.engine == b"{engine}" * 100_000
    assert outcome.report["peak_memory"] > 1 << 20
    assert "printed by a library" in outcome.log


def test_a_timeout_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with pytest.raises(
        BuildError, match=r"stopped after 0.3 s, while starting: .* longer timeout_s"
    ):
        run(monkeypatch, "import time; time.sleep(600)", timeout_s=0.3)
    assert time.monotonic() - start < 30


def test_an_interrupt_ends_the_child_and_stays_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "_command", lambda: [sys.executable, "-c", HANGING_CHILD])
    children: list[int] = []

    def interrupted(phase: str, done: int, total: int) -> None:
        children.append(int(phase))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.build_apart("TensorRT-RTX", REQUEST, interrupted, None)
    assert ended(children[0])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_a_killed_parent_leaves_no_orphan() -> None:
    script = f"""
import sys
from convcut_trt.backends import worker
worker._command = lambda: [sys.executable, "-c", {HANGING_CHILD!r}]
tell = lambda phase, done, total: print(phase, flush=True)
worker.build_apart("TensorRT-RTX", {REQUEST!r}, tell, None)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ended(child)


def test_the_share_of_nested_phases_never_falls() -> None:
    fraction = Fraction()
    fraction.start("build", None, 2)
    fraction.start("inner", "build", 4)
    fraction.step("inner", 1)
    assert fraction.share == pytest.approx(0.25)
    fraction.finish("inner")
    assert fraction.share == pytest.approx(0.25), "not yet counted by the phase around it"
    fraction.step("build", 0)
    fraction.start("inner", "build", 1)
    assert fraction.share == pytest.approx(0.5)
    fraction.step("inner", 0)
    fraction.step("inner", 5)
    assert fraction.share == pytest.approx(1.0)
    fraction.step("unknown", 3)
    fraction.finish("unknown")
