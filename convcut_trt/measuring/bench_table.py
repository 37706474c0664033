"""A bench's result as text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from convcut_trt.measuring.conditions import Conditions
from convcut_trt.measuring.results import Compared, Measured, Result, Series

_TIMES = ("p50 ms", "p90", "p95", "p99", "p99.9", "max", "jitter")
_HEAD = ("engine", "way", "batch", *_TIMES, "faces/s")


def text(result: Result) -> str:
    """Machine, versions, distributions, what else was measured, and comparisons."""
    machine = result.machine
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    where = f"{machine.device}, {machine.cores} cores, {machine.system}"
    if machine.processor != machine.device:
        where += f", {machine.processor}"
    parts = [f"{where}\n{versions}", table([_HEAD, *_rows(result.measured)])]
    parts += [_facts(measured) for measured in result.measured]
    asked = {measured.subject.name: measured.subject.asked for measured in result.measured}
    if result.compared:
        parts.append("\n".join(_comparison(compared, asked) for compared in result.compared))
    if result.skipped:
        parts.append(
            "\n".join(f"{name} is left out: {why}" for name, why in result.skipped.items())
        )
    if not result.complete:
        parts.append("not complete: it was stopped, or an engine answered wrong")
    return "\n\n".join(parts)


def _rows(measured: Iterable[Measured]) -> Iterable[Sequence[str]]:
    for one in measured:
        for series in one.series:
            yield one.subject.name, *_cells(series)


def _cells(series: Series) -> tuple[str, ...]:
    times = series.times
    shown = (times.p50, times.p90, times.p95, times.p99, times.p99_9, times.max, times.jitter)
    way = series.way if series.settled else f"{series.way}, unsettled"
    return way, str(series.batch), *map(_number, shown), f"{series.throughput:.0f}"


def _facts(measured: Measured) -> str:
    """What a table of times has no place for, one line each."""
    memory, energy, accuracy = measured.memory, measured.energy, measured.accuracy
    lines = [
        f"{measured.subject.name}: {measured.subject.precision}; opened in {measured.open_ms:.0f} ms, first call "
        f"{measured.first_ms:.2f} ms; largest difference from the trained model {measured.difference:.2g}"
    ]
    sizes = {
        "the engine": memory.engine,
        "process": memory.process,
        "peak": memory.peak,
        "GPU": memory.gpu,
    }
    known = [f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items() if size is not None]
    if known:
        lines.append(f"memory: {', '.join(known)}")
    if energy is None:
        lines.append("energy: nothing here that measures it")
    else:
        lines.append(
            f"energy: {energy.joules * 1000:.3g} mJ a face, {energy.watts:.1f} W, {energy.idle_watts:.1f} W idle: "
            f"{energy.of}"
        )
    if accuracy is not None:
        lines.append(
            f"accuracy: {accuracy.share:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}), {accuracy.data}"
        )
    if machine := _machine(measured.before, measured.after):
        lines.append(f"before and after: {machine}")
    lines += [f"{way}: not measured: {why}" for way, why in measured.not_measured.items()]
    lines += [f"{flag}: {why}" for flag, why in measured.flags.items()]
    return "\n  ".join(lines)


def _machine(before: Conditions, after: Conditions) -> str:
    """Clocks and heat, as ``GPU 1020 and 1980 MHz, 48 and 61 C``; empty where neither is known."""
    cpu = (before.cpu_mhz, after.cpu_mhz)
    gpu = [
        (moment.gpu.sm_mhz, moment.gpu.temperature_c) if moment.gpu else (None, None)
        for moment in (before, after)
    ]
    clocks, heat = zip(*gpu, strict=True)
    shown = (("CPU ", cpu, "MHz"), ("GPU ", clocks, "MHz"), ("", heat, "C"))
    return ", ".join(
        f"{what}{' and '.join('-' if value is None else f'{value:.0f}' for value in values)} {unit}"
        for what, values, unit in shown
        if any(value is not None for value in values)
    )


def _comparison(compared: Compared, asked: Mapping[str, str]) -> str:
    """A verdict, which is worth another thing where the two do not compute in the same bits."""
    one, other = asked[compared.name], asked[compared.other]
    bits = f"both {one}" if one == other else f"{one} against {other}"
    interval = (
        "no interval yet"
        if compared.low is None or compared.high is None
        else f"{compared.low:.3f} to {compared.high:.3f}"
    )
    flagged = "".join(f"; {flag}: {why}" for flag, why in compared.flags.items())
    return (
        f"{compared.name} against {compared.other}, {bits}, batch {compared.batch}: {compared.verdict}, "
        f"{compared.ratio:.3f}x as fast ({interval}; {compared.openings} openings, "
        f"{compared.seconds:g} s each){flagged}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 100 else f"{value:.0f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
