"""The verdicts tried on recorded openings: what comparisons of a few of them would have said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convcut_trt.fields import Fields
from convcut_trt.measuring.measure import ALIKE, FASTER, INCONCLUSIVE, SLOWER, Ratio
from convcut_trt.measuring.timed import F64
from convcut_trt.measuring.versus import LEAST
from convcut_trt.stats import bootstrap

RESAMPLINGS = 1000
_PAGE = """\
# What a comparison can tell

`{command}`, {date}, commit `{commit}`:
{openings} openings of {seconds:g} s on {cores} cores of {processor};
fp32 on onnxruntime, batch {batch}, {threads} thread{plural}. In each opening three sessions of one engine were
opened in random order and took turns, call by call, in random blocks and their mirror images, as
`convcut-trt bench` compares: each timed call waits until no thread spins, and follows one that does not count. The
third waited busily after each call, for 5 % of the median of its last 51 timed ones, which made {share:.1%} of A's
median in the opening ({small:.1%} to {large:.1%}). The load of the machine, this included, was {low:.1f} to
{high:.1f}; no opening was left out. [The samples](openings.json).

A call took {ms:.2f} ms (median; {least:.2f} to {most:.2f} over the openings). The ratio of two identical
sessions had a standard deviation of {same:.1%} from opening to opening, by the median of the paired
differences, which is what counts; by the ratio of the medians it would have been {medians:.1%}. With the
delay the ratio was {delay:.1%} on average, its standard deviation {delayed:.1%}.

{resamplings:,} comparisons, each of some of these openings, drawn anew for each; with replacement an opening may
come twice into one:

| compared | openings | replacement | faster or slower | same | inconclusive | interval covers | percentiles cover |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

"Covers": the 95 % interval holds the mean of all recorded openings. Percentiles of the bootstrap are too narrow for
so few; the studentised interval is the one in use.
"""


@dataclass(frozen=True)
class Tried:
    """What comparisons of a few openings say.

    Attributes:
        verdicts: Each, and its share of the comparisons.
        covered: Share of the intervals that hold the ratio of all recorded openings.
        narrow: The same of the percentile bootstrap's intervals.
    """

    verdicts: dict[str, float]
    covered: float
    narrow: float

    @property
    def told_apart(self) -> float:
        """Share of the verdicts ``faster`` and ``slower``."""
        return self.verdicts[FASTER] + self.verdicts[SLOWER]


def tried(log_ratios: Sequence[float], *, openings: int, replace: bool) -> Tried:
    """Draws openings from those recorded, ``RESAMPLINGS`` times, and compares by them.

    Args:
        log_ratios: Of all that were recorded.
        openings: Of one comparison.
        replace: Whether one opening may be drawn twice into a comparison.
    """
    values, random = np.array(log_ratios), np.random.default_rng(0)
    whole = values.mean()
    found: Counter[str] = Counter()
    covered = narrow = 0
    for _ in range(RESAMPLINGS):
        drawn = values[random.choice(len(values), openings, replace=replace)]
        ratio = Ratio.of(drawn)
        found[ratio.verdict] += 1
        covered += math.log(ratio.low) <= whole <= math.log(ratio.high)
        low, high = bootstrap(_mean_of(drawn), openings, resamples=500)
        narrow += low <= whole <= high
    shares = {name: found[name] / RESAMPLINGS for name in (FASTER, SLOWER, ALIKE, INCONCLUSIVE)}
    return Tried(shares, covered / RESAMPLINGS, narrow / RESAMPLINGS)


def _mean_of(values: F64) -> Callable[[F64], F64]:
    return lambda weights: weights @ values / len(values)


def ratios(recorded: Fields, name: str) -> list[float]:
    """Logarithms of how many times as fast A was as ``name``, of each recorded opening."""
    return [row.inside("log_ratios").get(name, float) for row in recorded.objects("openings")]


def page(recorded: Fields, plain: str, pairs: Sequence[str]) -> str:
    """The recording, and what the verdicts make of it, as Markdown.

    Args:
        recorded: As ``bench.openings`` writes it.
        plain: The session that the others are compared with.
        pairs: The one of the same engine, and the delayed one.
    """
    openings = recorded.objects("openings")
    median = recorded.list_of("percentiles", int).index(50)
    medians = {
        name: np.array(
            [row.inside("percentiles_us").list_of(name, float)[median] / 1000 for row in openings]
        )
        for name in (plain, *pairs)
    }
    again, delayed = (np.array(ratios(recorded, name)) for name in pairs)
    shares = np.array([row.get("delay_us", float) for row in openings]) / 1000 / medians[plain]
    loads = [row.get("load", float) for row in openings]
    machine, settings = recorded.inside("machine"), recorded.inside("settings")
    return _PAGE.format(
        command=recorded.get("command", str),
        date=recorded.get("date", str)[:10],
        commit=recorded.get("commit", str),
        openings=len(openings),
        seconds=settings.get("seconds", float),
        cores=machine.get("cores", int),
        processor=machine.get("processor", str),
        batch=settings.get("batch", int),
        threads=settings.get("threads", int),
        plural="s" * (settings.get("threads", int) > 1),
        share=np.median(shares),
        small=shares.min(),
        large=shares.max(),
        low=min(loads),
        high=max(loads),
        ms=np.median(medians[plain]),
        least=medians[plain].min(),
        most=medians[plain].max(),
        same=again.std(ddof=1),
        medians=np.log(medians[pairs[0]] / medians[plain]).std(ddof=1),
        delay=delayed.mean(),
        delayed=delayed.std(ddof=1),
        resamplings=RESAMPLINGS,
        rows="\n".join(
            _row(
                f"{plain}, {name}",
                tried(ratios(recorded, name), openings=n, replace=again_too),
                n,
                again_too,
            )
            for name in pairs
            for n in (12, LEAST)
            for again_too in (False, True)
        ),
    )


def _row(compared: str, found: Tried, openings: int, replace: bool) -> str:
    cells = (
        compared,
        str(openings),
        "with" if replace else "without",
        f"{found.told_apart:.1%}",
        f"{found.verdicts[ALIKE]:.1%}",
        f"{found.verdicts[INCONCLUSIVE]:.1%}",
        f"{found.covered:.1%}",
        f"{found.narrow:.1%}",
    )
    return f"| {' | '.join(cells)} |"
