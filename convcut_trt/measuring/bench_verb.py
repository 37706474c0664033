"""The verb ``bench``: engines measured one by one, then against each other, as a table and a result file."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from convcut_trt.errors import ConvcutError, GateFailed, InputError
from convcut_trt.gates import Step
from convcut_trt.home import engine_folder
from convcut_trt.manifest import now
from convcut_trt.measuring import bench_entrants, bench_table, provenance, results
from convcut_trt.measuring.bench_entrants import Peers
from convcut_trt.measuring.entrants import SPINNING, Entrant
from convcut_trt.measuring.latency import Measuring
from convcut_trt.measuring.measure import INCONCLUSIVE
from convcut_trt.measuring.results import Accuracy, Blocks, Compared, Measured, Result
from convcut_trt.measuring.sweep_plan import refuse_without_sweep
from convcut_trt.measuring.timed import F64
from convcut_trt.measuring.versus import LEAST, Versus
from convcut_trt.progress import Progress

_KEPT = 100  # blocks of an opening


def check_openings(openings: int) -> None:
    """Raises InputError for ``--openings`` too few for an interval."""
    if openings < LEAST:
        raise InputError(
            f"{openings} openings tell nothing of the spread between them: give {LEAST} or more"
        )


def bench(options: Namespace, peers: Peers | None = None) -> int:
    """Runs the verb.

    Args:
        options: As ``cli`` parses them.
        peers: What ``--against`` takes beside engines.

    Returns:
        The exit code: 0; 130 where it was interrupted; 2 where the result was shown and could not be written.

    Raises:
        InputError: Bad options, or two engines of one name.
        EngineMismatch: An engine is for another machine, or none fits this one.
        GateFailed: An engine answered wrong; what was measured before is kept.
    """
    check_openings(options.openings)
    refuse_without_sweep(options)
    taking, skipped = bench_entrants.chosen(options, peers or {})
    batches = {
        e.name: options.batch or tuple(dict.fromkeys(map(int, e.subject.batch))) for e in taking
    }
    compared = batches[taking[0].name][0]
    for entrant in taking:
        entrant.check_batches((*batches[entrant.name], compared))
    output = options.output or _default_output()
    _check_output(output)
    run = Run(taking, batches, options.seconds, options.openings, skipped, _words(options))
    problem: ConvcutError | None = None
    stopped = False
    with Progress(quiet=options.json) as progress:
        try:
            run.measure(progress, accuracy_of(options.data, progress))
            run.compare(progress)
        except KeyboardInterrupt:
            stopped = True
        except ConvcutError as error:
            problem = error
    result = run.result(complete=not stopped and problem is None)
    lost = _write(output, result) if result.measured else ""
    if options.json and (problem is None or isinstance(problem, GateFailed)):
        reason = str(problem or lost)
        print(json.dumps({**results.to_json(result), **({"reason": reason} if reason else {})}))
    elif result.measured and not options.json:
        print(bench_table.text(result))
        if not lost:
            print(f"\n{output}")
    if lost:
        print(f"convcut-trt: {lost}", file=sys.stderr)
    if problem is not None:
        raise problem
    if stopped:
        kept = "what was measured is kept" if result.measured else "nothing was measured yet"
        print(f"convcut-trt: stopped{'' if lost else f', {kept}'}", file=sys.stderr)
        return 130
    return InputError.exit_code if lost else 0


def _check_output(output: Path) -> None:
    """Makes sure, before anything is measured, that the result can be written.

    Raises:
        InputError: It cannot.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file in it with -o")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent} is no folder: make it, or choose another file with -o")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise InputError(
            f"{output.parent} cannot be written to ({error.strerror}): choose another file with -o"
        ) from None


def _write(output: Path, result: Result) -> str:
    """Writes a result; why it could not, empty where it could."""
    try:
        results.write(output, result)
    except InputError as error:
        return str(error)
    return ""


def _words(options: Namespace) -> list[str]:
    """What the command said of batches, faces and model, without a folder."""
    words = [] if options.batch is None else [f"--batch {','.join(map(str, options.batch))}"]
    for name in ("data", "model"):
        if (given := getattr(options, name)) is not None:
            words.append(f"--{name} {Path(given).resolve().name}")
    return words


class Run:
    """What is measured and compared, and how far that is."""

    def __init__(
        self,
        taking: Sequence[Entrant],
        batches: Mapping[str, tuple[int, ...]],
        seconds: float,
        openings: int,
        skipped: Mapping[str, str],
        words: Sequence[str] = (),
    ) -> None:
        """Nothing is opened yet.

        Args:
            taking: Who takes part.
            batches: Name -> batches that are measured; all are compared at the first one's first.
            seconds: Of each measurement and each opening.
            openings: Of the comparison.
            skipped: See ``Result``.
            words: More options of the command, as they are recorded.
        """
        self._taking, self._batches, self._skipped = taking, batches, skipped
        self._words = words
        self._seconds, self._openings = seconds, openings
        self._measured: list[Measured] = []
        self._compared: list[Compared] = []

    def measure(self, step: Step, accuracy_of: Callable[[Entrant], Accuracy | None]) -> None:
        """Every entrant for itself."""
        for entrant in self._taking:
            measuring = Measuring(entrant, self._batches[entrant.name], self._seconds)
            try:
                measuring.run(step)
            finally:
                if measuring.begun:
                    self._measured.append(measuring.found())
            accuracy = accuracy_of(entrant)
            self._measured[-1] = replace(self._measured[-1], accuracy=accuracy)

    def compare(self, step: Step) -> None:
        """All that can be asked against each other, at the first batch of the first."""
        batch = self._batches[self._taking[0].name][0]
        asked = [entrant for entrant in self._taking if entrant.own_times is None]
        if len(asked) < 2:
            return
        contenders = [entrant.contender(batch) for entrant in asked]
        versus = Versus(contenders, self._seconds, batch)
        try:
            for number in range(self._openings):
                step("comparing, opened anew", number, self._openings)
                versus.open_again()
            step("comparing, opened anew", self._openings, self._openings)
        finally:
            if versus.openings:
                self._compare_pairs(asked, versus)

    def _compare_pairs(self, asked: Sequence[Entrant], versus: Versus) -> None:
        """Engines with each other and with peers; how peers compare is theirs to say."""
        timings, enough = versus.timings, versus.openings >= LEAST
        for first, second in combinations(asked, 2):
            if first.subject.kind == second.subject.kind == "peer":
                continue
            one, other = first.name, second.name
            ratio = timings.ratio(one, other)
            self._compared.append(
                Compared(
                    name=one,
                    other=other,
                    batch=timings.batch,
                    openings=versus.openings,
                    seconds=self._seconds,
                    ratio=ratio.value,
                    low=ratio.low if enough else None,
                    high=ratio.high if enough else None,
                    verdict=timings.verdict(one, other) if enough else INCONCLUSIVE,
                    log_ratios=_rounded(timings.log_ratios(one, other), 6),
                    name_ms=_rounded(timings.rounds[one], 4),
                    other_ms=_rounded(timings.rounds[other], 4),
                    before=versus.before,
                    after=versus.after,
                    flags=timings.flags,
                    blocks=tuple(map(_blocks, timings.units[one], timings.units[other])),
                )
            )

    def result(self, *, complete: bool) -> Result:
        """What was found so far."""
        engines = [one.name for one in self._taking if one.subject.kind != "peer"]
        peers = [one.subject.flavour for one in self._taking if one.subject.kind == "peer"]
        words = [name.removesuffix(SPINNING) for name in engines]
        words += [
            *(["--spin"] if words != engines else []),
            *(f"--against {name}" for name in dict.fromkeys((*peers, *self._skipped))),
        ]
        words += [f"--seconds {self._seconds:g} --openings {self._openings}", *self._words]
        return Result(
            command=f"convcut-trt bench {' '.join(words)}",
            date=now(),
            commit=provenance.commit(),
            versions=provenance.versions(),
            machine=provenance.machine(),
            complete=complete,
            measured=tuple(self._measured),
            compared=tuple(self._compared),
            skipped=dict(self._skipped),
        )


def accuracy_of(data: str | None, step: Step) -> Callable[[Entrant], Accuracy | None]:
    """What answers the faces of ``--data``; they are read once for each model."""
    if data is None:
        return lambda entrant: None
    from convcut_trt.datasets import open_dataset
    from convcut_trt.gates import judged
    from convcut_trt.stats import wilson

    dataset = open_dataset(data)

    def answer(entrant: Entrant) -> Accuracy:
        faces = judged.from_dataset(dataset, entrant.work.spec)
        size, classes = max(map(int, entrant.subject.batch)), entrant.work.spec.classes
        labels = np.asarray(faces.labels)
        counts = np.zeros((len(classes), len(classes)), int)
        with entrant.open() as session:
            for start in range(0, len(labels), size):
                step(f"{entrant.name}, accuracy", start, len(labels))
                given = session.run(faces.faces[start : start + size])["probabilities"]
                np.add.at(counts, (labels[start : start + size], given.argmax(axis=1)), 1)
        step(f"{entrant.name}, accuracy", len(labels), len(labels))
        right = int(np.trace(counts))
        low, high = wilson(right, len(labels))
        confusion = dict(zip(classes, counts.tolist(), strict=True))
        return Accuracy(faces.source, len(labels), right / len(labels), low, high, confusion)

    return answer


def _blocks(one: F64, other: F64) -> Blocks:
    """What is kept of an opening."""
    places = np.linspace(0, len(one) - 1, min(_KEPT, len(one))).astype(int)
    return Blocks(_rounded(one[places], 4), _rounded(other[places], 4))


def _rounded(values: Iterable[float], digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in values)


def _default_output() -> Path:
    """A new file in the folder of results beside the engines."""
    folder = engine_folder() / "results"
    folder.mkdir(parents=True, exist_ok=True)
    device = re.sub(r"[^a-z0-9]+", "-", provenance.machine().device.lower()).strip("-")
    return folder / f"{device}.{now().replace(':', '').replace('+0000', 'Z')}.json"
