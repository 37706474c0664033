"""The soak: its verdicts on known samples, faults put into a real run that it finds, and the command itself."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.report import report
from bench.soak import main
from bench.soak_checks import BROKEN, KEPT, NOT_SHOWN, Check, checks
from bench.soak_ends import CYCLE, WITH_FACE, Camera, Journal, scenes
from bench.soak_loop import COLUMNS, soak
from bench.soak_page import markdown
from convcut_trt.progress import Progress
from convcut_trt.track import Tracking
from tests.results import ABOUT, face, result
from tests.stream.loop import FakeEngine

RATE = 30.0
RESIDENT, BLOCKS = "resident memory flat", "Python's memory flat"
FILES, THREADS = "open files flat", "threads flat"
P99, DRIFT = "latency p99 flat", "no drift against the stamps"
STAMPS, ACCOUNTED = "stamps pass unchanged and in order", "every frame accounted for"


def found(samples: int = 120) -> dict[str, Any]:
    """Two hours in which everything stays what it is, but for a little noise."""
    noise = np.random.default_rng(0).normal(0, 1, (len(COLUMNS), samples))
    level = {"p50_ms": 5.0, "p99_ms": 20.0, "least_lag_ms": 3.0, "cpu_ms": 6.0, "waited_ms": 0.5}
    level |= {"rss_mib": 120.0, "pss_mib": 110.0, "uss_mib": 100.0, "blocks": 400_000.0}
    column = {
        name: level.get(name, 1.0) + 0.01 * noise[number] for number, name in enumerate(COLUMNS)
    }
    column |= {"seconds": 60.0 * np.arange(1, samples + 1), "blocks": 400_000 + 50 * noise[0]}
    column |= {"fds": np.full(samples, 9.0), "threads": np.full(samples, 2.0)}
    counts = {"frames": 216_000, "processed": 215_990, "dropped": 10, "bad": 0, "bad_boxes": 0}
    return {
        "samples": {name: values.tolist() for name, values in column.items()},
        "counts": counts | {"lines": 215_990, "altered": 0, "unordered": 0},
        "complete": True,
    }


def changed(name: str, change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, Any]:
    """The same, a column of it changed; the function is given its values and the hours."""
    run = found()
    hours = np.array(run["samples"]["seconds"]) / 3600
    run["samples"][name] = change(np.array(run["samples"][name]), hours).tolist()
    return run


def counted(**counts: int) -> dict[str, Any]:
    run = found()
    run["counts"] |= counts
    return run


def verdicts(judged: list[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in judged}


def test_what_stays_flat_is_kept() -> None:
    assert set(verdicts(checks(found(), RATE)).values()) == {KEPT}


def once(values: np.ndarray, hours: np.ndarray) -> np.ndarray:
    return values + (hours > 1.9)


@pytest.mark.parametrize(
    ("name", "verdict", "run"),
    [
        (RESIDENT, BROKEN, changed("rss_mib", lambda v, h: v + 1.5 * h)),
        (RESIDENT, NOT_SHOWN, changed("rss_mib", lambda v, h: v + h)),
        (RESIDENT, KEPT, changed("rss_mib", lambda v, h: v + 0.5 * h)),
        (RESIDENT, KEPT, changed("rss_mib", lambda v, h: v + 50 * (h < 0.1))),
        (RESIDENT, KEPT, changed("rss_mib", lambda v, h: v - 5 * h)),
        ("private memory flat", BROKEN, changed("uss_mib", lambda v, h: v + 1.5 * h)),
        # an object left behind by every fifth frame, and by every 30th
        (BLOCKS, BROKEN, changed("blocks", lambda v, h: v + RATE * 3600 / 5 * h)),
        (BLOCKS, KEPT, changed("blocks", lambda v, h: v + RATE * 3600 / 30 * h)),
        (FILES, BROKEN, changed("fds", once)),
        (FILES, KEPT, changed("fds", lambda v, h: v + (h < 0.1))),
        (THREADS, BROKEN, changed("threads", once)),
        (P99, BROKEN, changed("p99_ms", lambda v, h: v + 10 * h)),
        (P99, KEPT, changed("p99_ms", lambda v, h: v + h)),
        (P99, KEPT, changed("p99_ms", lambda v, h: v / (1 + h))),
        ("CPU time a frame flat", BROKEN, changed("cpu_ms", lambda v, h: v + 3 * h)),
        (DRIFT, BROKEN, changed("least_lag_ms", lambda v, h: v + 6 * h)),
        (DRIFT, BROKEN, changed("least_lag_ms", lambda v, h: v - 6 * h)),
        (DRIFT, KEPT, changed("least_lag_ms", lambda v, h: v + 2 * h)),
        (STAMPS, BROKEN, counted(altered=1)),
        (STAMPS, BROKEN, counted(unordered=1)),
        (ACCOUNTED, BROKEN, counted(dropped=9)),
        (ACCOUNTED, BROKEN, counted(lines=215_989)),
        (ACCOUNTED, BROKEN, counted(bad=1, dropped=9)),
    ],
)
def test_what_does_not_is_found(name: str, verdict: str, run: dict[str, Any]) -> None:
    judged = verdicts(checks(run, RATE))
    assert judged.pop(name) == verdict
    assert set(judged.values()) == {KEPT}


def test_a_latency_that_rises_with_the_wait_for_a_core_is_not_held_against_the_loop() -> None:
    run = changed("p99_ms", lambda v, h: v + 10 * h)
    hours = np.array(run["samples"]["seconds"]) / 3600
    run["samples"]["waited_ms"] = (0.5 + hours).tolist()
    assert verdicts(checks(run, RATE))[P99] == NOT_SHOWN


@pytest.mark.parametrize("samples", [0, 1, 7])
def test_few_samples_show_nothing(samples: int) -> None:
    judged = checks(found(samples), RATE)
    counts = {STAMPS, ACCOUNTED} | ({FILES, THREADS} if samples else set())
    assert {check.name for check in judged if check.verdict == KEPT} == counts
    assert {check.verdict for check in judged} == {KEPT, NOT_SHOWN}


def test_page_and_report_show_every_verdict(tmp_path: Path) -> None:
    run = changed("p99_ms", lambda v, h: v + 10 * h)
    machine = {"processor": "A CPU", "cores": 2}
    origin = {"command": "python -m bench.soak", "commit": None, "date": "2026-01-02T03:04:05Z"}
    part = {**origin, "machine": machine, "engine": "an engine", **run}
    part["checks"] = [vars(check) for check in checks(run, RATE)]
    empty = {**part, **found(0), "checks": []}
    whole = {"schema": 1, "device": "CPU", "parts": {"120 min": part, "1 min, stopped": empty}}
    page = markdown(whole)
    assert f"| {P99} | broken | 2" in page and page.count("| kept |") == 9
    assert "120 samples in 12 rows" in page and page.count("| 9 | 2 |") == 12  # files, threads
    (tmp_path / "soak.json").write_text(json.dumps(whole))
    text = report(tmp_path, None)
    assert "Latency, ms, 120 min" in text and "Memory, MiB, 120 min" in text


def test_the_scenes_repeat_and_the_face_is_away_for_longer_than_a_track_lives() -> None:
    made = scenes()
    assert len({jpeg for jpeg, _ in made}) == WITH_FACE + 1
    assert [box is not None for _, box in made] == [number < WITH_FACE for number in range(CYCLE)]
    assert Tracking().gap < (CYCLE - WITH_FACE) / RATE


class Slow(Camera):
    """A camera whose frames come later and later after the time that they bear: each a third of a millisecond."""

    late = 0

    def _pause(self, nanoseconds: int) -> None:
        self.late += 10**9 // 3000
        super()._pause(nanoseconds + self.late)


class Faulty:
    """A detector that leaks memory, files and threads, and takes longer each time."""

    def __init__(self, camera: Camera) -> None:
        self._camera, self._count = camera, 0
        self._memory: list[bytes] = []
        self.files: list[int] = []
        self.end = threading.Event()

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        self._count += 1
        self._memory.append(b"x" * 2**18)
        if self._count % 20 == 0:
            self.files.append(os.open(os.devnull, os.O_RDONLY))
            threading.Thread(target=self.end.wait, daemon=True).start()
        time.sleep(self._count * 1e-4)
        return self._camera.find(picture)


def test_faults_in_a_real_run_are_found(tmp_path: Path) -> None:
    camera = Slow(RATE, 8)
    faulty = Faulty(camera)
    before = signal.getsignal(signal.SIGINT)
    try:
        run = soak(FakeEngine(), camera, tmp_path, Progress(quiet=True), faulty)
    finally:
        faulty.end.set()
        for file in faulty.files:
            os.close(file)
    assert signal.getsignal(signal.SIGINT) is before
    judged = verdicts(checks(run, RATE))
    assert {name for name, verdict in judged.items() if verdict == BROKEN} >= {
        *(RESIDENT, "private memory flat", BLOCKS, FILES, THREADS, DRIFT),
    }
    assert judged[STAMPS] == judged[ACCOUNTED] == KEPT
    assert run["complete"] and not list(tmp_path.iterdir())


def test_altered_and_unordered_lines_are_found_and_nothing_stays_on_the_disk(
    tmp_path: Path,
) -> None:
    camera = Camera(RATE, 1)
    journal = Journal(tmp_path, ABOUT, camera)
    for number in (0, 1, 3):
        journal.send(result(sequence=number, timestamp=camera.stamp(number)))
    journal.turn()
    journal.send(result(sequence=3, timestamp=camera.stamp(3)))
    journal.send(result(face(), sequence=4, timestamp=camera.stamp(4) + 1))
    journal.send(result(face(), sequence=5, timestamp=camera.stamp(5)))
    assert (tmp_path / "answers.jsonl").exists()
    journal.close()
    journal.close()
    assert (journal.lines, journal.altered, journal.unordered) == (6, 1, 1)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_keeps_what_was_measured(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Camera.find

    def interrupted(camera: Camera, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        if next(calls) == 60:
            os.kill(os.getpid(), signal.SIGINT)
        return find(camera, picture)

    calls = itertools.count()
    monkeypatch.setattr(Camera, "find", interrupted)
    command = ["--minutes", "0.5", "--engine", str(engines), "-o", str(tmp_path / "out")]
    assert main(command) == 130
    part = json.loads((tmp_path / "out" / "soak.json").read_text())["parts"][
        "0.5 min at 30 Hz, stopped"
    ]
    assert part["counts"]["lines"] == 61 and not part["complete"]
    assert part["command"] == f"python -m bench.soak --minutes 0.5 --engine {engines.name}"
    judged = {check["name"]: check["verdict"] for check in part["checks"]}
    assert judged[STAMPS] == judged[ACCOUNTED] == KEPT
    assert (tmp_path / "out" / "soak.md").read_text().count("## 0.5 min at 30 Hz, stopped") == 1


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "20000", "long"])
def test_bad_minutes(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--minutes", minutes])
    assert "--minutes" in capsys.readouterr().err


@pytest.mark.slow
def test_five_minutes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.soak", "--minutes", "5", "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    # Five minutes are too few to show that memory grows by so little.
    assert done.returncode in (0, 1)
    (part,) = json.loads((tmp_path / "soak.json").read_text())["parts"].values()
    judged = {check["name"]: check["verdict"] for check in part["checks"]}
    # What waits for a core is no fault of the loop's.
    if max(part["samples"]["load"]) > (os.cpu_count() or 1):
        judged.pop(P99)
    assert BROKEN not in judged.values(), part["checks"]
    assert all(judged[name] == KEPT for name in (FILES, THREADS, STAMPS, ACCOUNTED))
