"""Measuring one engine: every way of timing, on a clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convcut_trt.errors import GateFailed
from convcut_trt.measuring import conditions, energy, latency, timed
from convcut_trt.measuring.entrants import Entrant, Work, engine_entrant
from convcut_trt.measuring.latency import Measuring
from convcut_trt.measuring.results import IDLE, ON_GPU, STEADY, WHOLE
from tests.measuring.test_results import example
from tests.models import quiet, zoo
from tests.timing import Clock

ZOO = zoo()
WORK = Work.read(ZOO.spec, ZOO.folder)


class Known:
    """A session that knows the witnesses' answers, and takes a time for each face and one for being called late."""

    outputs = ("probabilities",)

    def __init__(self, clock: Clock, wrong_at: int | None = None) -> None:
        self._clock, self._wrong_at = clock, wrong_at
        self._answers = {
            face.tobytes(): answer for face, answer in zip(WORK.faces, WORK.wanted, strict=True)
        }
        self.batches: list[int] = []
        self.open = False
        self._last = 0.0

    def run(self, images: np.ndarray, out: Any = None) -> dict[str, np.ndarray]:
        """5 ms and 1 ms a face; 10 ms the first time, and 3 ms more after a pause of 10 ms."""
        late = self._clock.now - self._last > 0.010
        first = not self.batches
        self._clock.now += 0.005 + 0.001 * len(images) + 0.003 * late + 0.010 * first
        self.batches.append(len(images))
        self._last = self._clock.now
        answers = np.stack([self._answers[face.tobytes()] for face in images])
        if len(self.batches) == self._wrong_at:
            answers = answers[:, ::-1].copy()
        return {"probabilities": answers}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    for module in (timed, latency, energy):
        monkeypatch.setattr(module, "time", own)
    return own


def entrant(session: Known, clock: Clock) -> Entrant:
    @contextmanager
    def opened() -> Any:
        clock.now += 0.3
        session.open = True
        yield session
        session.open = False

    subject = replace(example().measured[0].subject, name="small", batch=(1, 4, 16))
    return Entrant(subject, WORK, opened, 1e-3, on_cpu=True)


def measure(session: Known, clock: Clock, batches: Sequence[int] = (1, 4)) -> Measuring:
    measuring = Measuring(entrant(session, clock), tuple(batches), 2.0)
    measuring.run(quiet)
    return measuring


def test_every_way_of_timing(clock: Clock) -> None:
    found = measure(Known(clock), clock).found()
    assert found.open_ms == pytest.approx(300, rel=1e-3)
    assert found.first_ms == pytest.approx(19, rel=1e-3)
    ways = {(series.way, series.batch): series for series in found.series}
    assert list(ways) == [(STEADY, 1), (STEADY, 4), (IDLE, 1), (WHOLE, 1)]
    medians = {key: series.times.p50 for key, series in ways.items()}
    assert medians[STEADY, 1] == pytest.approx(6, rel=1e-3)
    assert medians[STEADY, 4] == pytest.approx(9, rel=1e-3)
    assert medians[IDLE, 1] == pytest.approx(9, rel=1e-3)
    assert medians[WHOLE, 1] == pytest.approx(6, rel=1e-3)  # cropping takes no time by this clock
    assert all(series.settled for series in found.series)
    assert ways[IDLE, 1].times.calls == pytest.approx(60, abs=1)
    assert ways[STEADY, 1].times.calls == pytest.approx(2 / 0.006, abs=2)
    assert ways[STEADY, 4].throughput == pytest.approx(4 / 0.009, rel=1e-2)
    assert list(found.not_measured) == [ON_GPU]
    assert found.memory.process and found.memory.peak
    assert found.memory.peak >= found.memory.process
    assert found.memory.gpu is None
    assert found.difference <= 1e-3
    assert found.before.at_s <= found.after.at_s


@pytest.mark.parametrize(("bytes_after", "engine"), [(7_000_000, 2_000_000), (4_000_000, None)])
def test_an_engine_never_needs_less_than_nothing(
    monkeypatch: pytest.MonkeyPatch, bytes_after: int, engine: int | None
) -> None:
    """What was open before may be freed while it is measured."""
    monkeypatch.setattr(latency, "_resident", lambda: bytes_after)
    found = latency._memory(5_000_000, None)
    assert (found.engine, found.process) == (engine, bytes_after)


def test_the_face_is_cut_out_as_the_witness_was(clock: Clock) -> None:
    # A session that does not know a face raises KeyError: frames were cut to the very bytes.
    measure(Known(clock), clock, [1])


@pytest.mark.parametrize("wrong_at", [1, 100, 600, 1000])
def test_a_wrong_answer_ends_it_and_what_was_measured_before_is_kept(
    clock: Clock, wrong_at: int
) -> None:
    measuring = Measuring(entrant(Known(clock, wrong_at), clock), (1, 4), 2.0)
    with pytest.raises(GateFailed, match="^small answered wrong at call"):
        measuring.run(quiet)
    assert measuring.begun == (wrong_at > 500)
    assert len(measuring.found().series) in (0, 1, 2, 3)


def test_energy_is_measured_where_there_is_a_meter(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def meter(on_cpu: bool) -> Any:
        assert on_cpu
        yield energy.Counter("a package", 4.0, lambda: 30 * clock.now)

    monkeypatch.setattr(energy, "meter", meter)
    cost = measure(Known(clock), clock, [1]).found().energy
    assert cost is not None
    assert (cost.of, cost.batch) == ("a package", 1)
    assert cost.joules == pytest.approx(30 * 0.006, rel=0.01)


def test_a_busy_machine_is_flagged(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(
        [
            conditions.Conditions(at_s=at, cores=2, busy_s=busy, own_s=0.0)
            for at, busy in ((0.0, 0.0), (10.0, 12.0))
        ]
    )
    monkeypatch.setattr(conditions, "read", lambda: next(moments))
    found = measure(Known(clock), clock, [1]).found()
    assert found.flags == {"busy": "others took 60% of the CPU"}


@pytest.mark.parametrize("metered", [False, True])
def test_the_machine_is_read_right_after_the_last_call(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, metered: bool
) -> None:
    """What holds a GPU back is told at the moment alone, and gone when it idles."""

    @contextmanager
    def meter(on_cpu: bool) -> Any:
        yield energy.Counter("a package", 4.0, lambda: 30 * clock.now) if metered else None

    seen: list[tuple[bool, int]] = []

    def read() -> conditions.Conditions:
        seen.append((session.open, len(session.batches)))
        return conditions.Conditions(at_s=clock.now, cores=2, own_s=0.0)

    session = Known(clock)
    monkeypatch.setattr(energy, "meter", meter)
    monkeypatch.setattr(conditions, "read", read)
    found = measure(session, clock, [1]).found()
    assert seen == [(False, 0), (True, len(session.batches))]
    assert found.after.at_s == pytest.approx(clock.now, abs=1e-3)


def test_a_peer_that_answers_wrong_is_not_ours_to_build(clock: Clock) -> None:
    own = entrant(Known(clock, 1), clock)
    peer = replace(own, subject=replace(own.subject, kind="peer", flavour="torch"))
    for one, said in ((own, "`convcut-trt build`"), (peer, "leave `--against torch` out")):
        with pytest.raises(GateFailed, match=said) as caught:
            Measuring(replace(one, open=entrant(Known(clock, 1), clock).open), (1,), 2.0).run(quiet)
        assert ("convcut-trt" in str(caught.value)) == (one is own)
        assert one.contender(1).fix in str(caught.value)


@pytest.mark.parametrize(("size", "count"), [(1, 16), (4, 4), (5, 4), (16, 2), (40, 2)])
def test_batches_differ_and_have_their_answers(size: int, count: int) -> None:
    batches, wanted = WORK.batches(size)
    assert len(batches) == len(wanted) == count
    assert all(batch.shape[0] == size for batch in batches)
    assert len({batch[0].tobytes() for batch in batches}) == count
    answers = {face.tobytes(): answer for face, answer in zip(WORK.faces, WORK.wanted, strict=True)}
    for batch, answer in zip(batches, wanted, strict=True):
        np.testing.assert_array_equal(np.stack([answers[face.tobytes()] for face in batch]), answer)


@pytest.mark.slow
def test_a_real_engine(engines: Any) -> None:
    from convcut_trt.fit import newest

    found = Measuring(engine_entrant(newest(engines, "conv-cut-mini", None, "auto")), (1,), 0.05)
    found.run(quiet)
    measured = found.found()
    assert [series.way for series in measured.series] == [STEADY, IDLE, WHOLE]
    assert 0 < measured.difference < 3e-3
    assert measured.subject.name == "conv-cut-mini.fp16.onnxruntime"
