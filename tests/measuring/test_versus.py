"""Comparing: everything anew in each opening, in turns, in no fixed order."""

from __future__ import annotations

import numpy as np
import pytest

from convcut_trt.errors import GateFailed
from convcut_trt.measuring import conditions, timed, versus
from convcut_trt.measuring.conditions import Conditions
from convcut_trt.measuring.versus import Contender, Versus, of_blocks, opening
from tests.timing import ANSWER, FACES, Clock, Engine

WANTED = [ANSWER, ANSWER]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(timed, "time", own)
    monkeypatch.setattr(versus, "time", own)
    return own


class Maker:
    """Opens engines of one speed, and keeps them."""

    def __init__(self, clock: Clock, log: list[str], name: str, *seconds: float) -> None:
        self.clock, self.log, self.name, self.seconds = clock, log, name, seconds
        self.made: list[Engine] = []
        self.wrong_at: int | None = None

    def contender(self) -> Contender:
        """For ``Versus``."""
        maker = self

        class Logged(Engine):
            def run(self, images: np.ndarray, out: object = None) -> dict[str, np.ndarray]:
                maker.log.append(maker.name)
                return super().run(images)

        def make():  # type: ignore[no-untyped-def]
            self.log.append(f"open {self.name}")
            self.made.append(Logged(self.clock, self.seconds, self.wrong_at))
            return self.made[-1].opened()

        return Contender(self.name, make, FACES, 1e-3, WANTED)


def test_blocks_are_random_and_mirrored(clock: Clock) -> None:
    log: list[str] = []
    makers = [Maker(clock, log, name, 0.01) for name in ("a", "b", "c")]
    samples = opening([m.contender() for m in makers], 3.0, np.random.default_rng(0))
    calls = log[3:]
    blocks = [calls[i : i + 6] for i in range(0, len(calls), 6)]
    assert all(sorted(block[:3]) == ["a", "b", "c"] for block in blocks)
    assert all(block == block[::-1] for block in blocks)
    assert len({tuple(block) for block in blocks}) == 6
    # a tenth of the time to warm up
    assert {name: len(values) for name, values in samples.items()} == dict.fromkeys("abc", 45)
    assert len(blocks) == pytest.approx(50, abs=1)


def test_before_a_quiet_call_nothing_spins(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, float]] = []
    spins_until = 0.0

    def wait() -> None:
        clock.now = max(clock.now, spins_until)

    monkeypatch.setattr(versus, "until_quiet", wait)

    class Spins(Engine):
        def __init__(self, name: str, spins: float) -> None:
            super().__init__(clock, [0.002])
            self.name, self.spins = name, spins

        def run(self, images: np.ndarray, out: object = None) -> dict[str, np.ndarray]:
            nonlocal spins_until
            begun.append((self.name, clock.now - spins_until))
            answer = super().run(images)
            spins_until = clock.now + self.spins
            return answer

    def contender(name: str, spins: float) -> Contender:
        return Contender(name, lambda: Spins(name, spins).opened(), FACES, 1e-3, WANTED)

    pair = [contender("a", 0.03), contender("b", 0.0)]
    Versus(pair, 1.0, batch=1).open_again()
    first, timed_ones = begun[::2], begun[1::2]
    assert [name for name, _ in first] == [name for name, _ in timed_ones]
    assert all(rest >= 0 for _, rest in first)
    assert max(rest for _, rest in first) < 0.005
    begun.clear()
    opening(pair, 1.0, np.random.default_rng(0))
    assert any(rest < 0 for name, rest in begun if name == "b")


def test_every_opening_opens_all_of_them_anew_in_random_order(clock: Clock) -> None:
    log: list[str] = []
    makers = [Maker(clock, log, name, 0.001) for name in ("a", "b")]
    compared = Versus([m.contender() for m in makers], 0.1, batch=1)
    for _ in range(12):
        compared.open_again()
    assert compared.openings == 12
    opened = [word for word in log if word.startswith("open")]
    pairs = {tuple(opened[i : i + 2]) for i in range(0, 24, 2)}
    assert pairs == {("open a", "open b"), ("open b", "open a")}
    for maker in makers:
        assert len(maker.made) == 12
        assert all(engine.closed for engine in maker.made)


@pytest.mark.parametrize(
    ("other", "verdict"), [(0.010, "same"), (0.0101, "same"), (0.0105, "faster"), (0.005, "slower")]
)
def test_verdicts(clock: Clock, other: float, verdict: str) -> None:
    makers = [Maker(clock, [], "a", 0.010), Maker(clock, [], "b", other)]
    compared = Versus([m.contender() for m in makers], 0.5, batch=1)
    for _ in range(8):
        compared.open_again()
    ratio = compared.timings.ratio("a", "b")
    assert ratio.verdict == verdict
    assert ratio.value == pytest.approx(other / 0.010, rel=1e-3)
    assert compared.timings.batch == 1


def test_the_machine_is_read_before_all_and_before_each_opening_is_closed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds a GPU back is told at the moment alone, and gone when it idles."""
    maker = Maker(clock, [], "a", 0.001)
    seen: list[tuple[int, int]] = []

    def read() -> Conditions:
        seen.append((len(maker.made), sum(not engine.closed for engine in maker.made)))
        calls = sum(len(engine.asked) for engine in maker.made)
        return Conditions(at_s=calls, cores=2, swapped_pages=calls, own_s=0)

    monkeypatch.setattr(conditions, "read", read)
    compared = Versus([maker.contender(), Maker(clock, [], "b", 0.001).contender()], 0.1, batch=1)
    assert compared.timings.flags == {}
    for _ in range(3):
        compared.open_again()
    assert seen == [(0, 0), (1, 1), (2, 1), (3, 1)]
    # after the last call of the last opening
    assert compared.after.at_s == sum(len(engine.asked) for engine in maker.made)
    assert compared.before.at_s == 0
    assert list(compared.timings.flags) == ["swapped"]
    assert compared.timings.verdict("a", "b") == "inconclusive"


def test_drifts_cancel_out_within_a_block(clock: Clock) -> None:
    """The machine gets slower by 1 % with every call: whoever comes first in a block is also last."""

    calls = np.arange(400)
    slower = 0.001 * 1.01**calls
    order = np.tile([0, 1, 1, 0], 100)
    times = {name: slower[order == name].reshape(-1, 2) for name in (0, 1)}
    assert of_blocks(times[0]) == pytest.approx(of_blocks(times[1]))


def test_a_wrong_answer_ends_the_comparison_and_closes_everything(clock: Clock) -> None:
    makers = [Maker(clock, [], "a", 0.001), Maker(clock, [], "b", 0.001)]
    compared = Versus([m.contender() for m in makers], 0.1, batch=1)
    compared.open_again()
    makers[1].wrong_at = 5
    with pytest.raises(GateFailed, match="^b answered wrong at call 5"):
        compared.open_again()
    assert compared.openings == 1
