"""``bench --sweep``: engines of every combination, one by one built, held to its gates, measured and compared.

Whatever ends it, what is done is kept, and the same command goes on with the rest: a cell is done when its
``cell.json`` is there, which is written last, and is done again when anything changed that its outcome depends on.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convcut_trt.alone import alone
from convcut_trt.errors import BuildError, ConvcutError, GateFailed, InputError
from convcut_trt.fields import read_json, write_json
from convcut_trt.gates import Step
from convcut_trt.home import engine_folder, make_engine_folder
from convcut_trt.manifest import EngineManifest, manifests, now
from convcut_trt.measuring import bench_verb, provenance, results, sweep_table
from convcut_trt.measuring.apart import Crashed, apart
from convcut_trt.measuring.results import Result
from convcut_trt.measuring.sweep_cell import (
    BUILDING,
    COMPARING,
    MEASURING,
    Opponent,
    Unwritable,
    work,
)
from convcut_trt.measuring.sweep_plan import AXES, Asked, Cell, keys, plan
from convcut_trt.measuring.sweep_table import CRASHED, FAILED, PASSED, REFUSED, Fate
from convcut_trt.progress import Progress

SCHEMA = 1
RESULT = "sweep.json"
_STARTS = {BUILDING: 0, MEASURING: 150, COMPARING: 400}
_CELL = 1000  # steps of the bar


def sweep(options: Namespace) -> int:
    """Runs the verb.

    Args:
        options: As ``cli`` parses them.

    Raises:
        InputError: Bad options, nothing can be built here, another sweep is at work in the folder, or a full disk;
            what was done is kept.
        GateFailed: No engine passed.
    """
    bench_verb.check_openings(options.openings)
    if options.against or options.model is not None or options.spin:
        raise InputError(
            "--against, --model and --spin are for engines that are there: leave them out with --sweep"
        )
    cells, asked = plan(options), Asked.of(options)
    tried = [cell for cell in cells if not cell.refused]
    if not tried:
        raise InputError(f"nothing of this sweep can be built here: {cells[0].refused}")
    folder = options.output or engine_folder() / "sweep"
    make_engine_folder(folder)
    make_engine_folder(folder / "engines")
    busy = f"another sweep is at work in {folder}: wait for it, or choose another folder with -o"
    with alone(folder / "engines", busy):
        return _run(options, cells, asked, folder)


def _run(options: Namespace, cells: Sequence[Cell], asked: Asked, folder: Path) -> int:
    run = _Sweep(folder, cells, asked, _command(options, asked))
    print(run.greeting(), file=sys.stderr)
    problem: ConvcutError | None = None
    stopped = False
    with Progress(quiet=options.json) as progress:
        try:
            run.run(progress)
        except KeyboardInterrupt:
            stopped = True
        except ConvcutError as error:
            problem = error
    if options.json:
        if problem is None:
            print(json.dumps(run.to_json()))
    else:
        print(sweep_table.text(cells, run.fates, run.result(), asked.batches))
        if run.result().measured:
            print(f"\n{folder / RESULT}")
    if problem is not None:
        raise problem
    if stopped:
        print(
            "convcut-trt: stopped, what is done is kept: the same command goes on", file=sys.stderr
        )
        return 130
    if not run.result().measured:
        raise GateFailed("no engine of this sweep passed: see the reason of each")
    return 0


@dataclass(frozen=True)
class _Done:
    """A cell that is done.

    Attributes:
        fate: How it ended.
        against: SHA-256 of the engine that it was compared with; empty for none.
        result: Its part of the whole; None where it did not pass.
        opponent: Its engine, for the cells that come after it; None where it did not pass.
    """

    fate: Fate
    against: str
    result: Result | None = None
    opponent: Opponent | None = None

    @property
    def sha256(self) -> str:
        """Of its engine."""
        return str(self.result.measured[0].subject.sha256["engine"]) if self.result else ""


class _Sweep:
    """The cells of a sweep and how far they are."""

    def __init__(self, folder: Path, cells: Sequence[Cell], asked: Asked, command: str) -> None:
        self._folder, self._asked, self._command = folder, asked, command
        self._tried = [cell for cell in cells if not cell.refused]
        self.fates = {cell.name: Fate(REFUSED, cell.refused) for cell in cells if cell.refused}
        self._commit, self._versions = provenance.commit(), provenance.versions()
        self._machine = provenance.machine()
        self._keys = keys(self._tried, asked)
        self._kept = {cell.name: self._read(cell) for cell in self._tried}
        self._done: dict[str, _Done] = {}

    def greeting(self) -> str:
        """How much there is to do, and what is done again."""
        kept = sum(done is not None for done in self._kept.values())
        lines = [f"{len(self._tried)} engines to build and measure, {kept} of them done before"]
        lines += [
            f"{cell.name} is done again: it, or what it depends on, has changed"
            for cell in self._tried
            if self._kept[cell.name] is None and self._record(cell).exists()
        ]
        return "\n".join(lines)

    def run(self, step: Step) -> None:
        """Does what is missing.

        Raises:
            Unwritable: The disk is full, for example.
        """
        opponents: dict[str, _Done] = {}
        left = sum(done is None for done in self._kept.values())
        number = 0
        for cell in self._tried:
            first = opponents.get(cell.network)
            done = self._kept[cell.name]
            if done is None or done.against != (first.sha256 if first else ""):
                # one that was kept may have to be compared with another engine now
                left = max(left, number + 1)
                done = self._do(cell, first, step, number, left)
                number += 1
            self._done[cell.name] = done
            self.fates[cell.name] = done.fate
            if done.opponent is not None:
                opponents.setdefault(cell.network, done)
            self._write()
        if left:
            step("done", left * _CELL, left * _CELL)

    def _do(self, cell: Cell, first: _Done | None, step: Step, number: int, left: int) -> _Done:
        def told(phase: str, done: int, total: int) -> None:
            start = _STARTS[phase]
            share = (_CELL - start) * done // total
            step(f"{cell.name}, {phase}", number * _CELL + start + share, left * _CELL)

        place = self._place(cell)
        make_engine_folder(place)
        self._record(cell).unlink(missing_ok=True)
        against = first.sha256 if first else ""
        opponent = first.opponent if first else None
        result: Result | None = None
        try:
            result = apart(work, cell, self._asked, place, opponent, step=told)
            fate = Fate(PASSED, "")
        except Unwritable:
            raise
        except Crashed as error:
            return _Done(Fate(CRASHED, str(error)), against)  # tried again the next time
        except GateFailed as error:
            failed = ", ".join(gate.name for gate in error.gates if gate.verdict == "fail")
            fate = Fate(FAILED, f"at {failed}" if failed else str(error))
        except BuildError as error:
            fate = Fate(FAILED, str(error))
        except ConvcutError as error:
            fate = Fate(REFUSED, str(error))
        if result is None:
            self._keep(cell, fate, against)
            return _Done(fate, against)
        results.write(place / "result.json", result)
        self._keep(cell, fate, against)
        (manifest,) = manifests(place)
        return _Done(fate, against, result, Opponent(cell.name, manifest))

    def _keep(self, cell: Cell, fate: Fate, against: str) -> None:
        values = {"schema": SCHEMA, "key": self._keys[cell.name], "against": against}
        write_json(self._record(cell), {**values, "fate": fate.kind, "reason": fate.reason})

    def _read(self, cell: Cell) -> _Done | None:
        """A cell that was done before; None where it has to be done, once more or at all."""
        place = self._place(cell)
        try:
            record = read_json(self._record(cell), SCHEMA, InputError, "")
            if record.get("key", str) != self._keys[cell.name]:
                return None
            fate = Fate(record.get("fate", str), record.get("reason", str))
            against = record.get("against", str)
            if fate.kind != PASSED:
                return _Done(fate, against)
            result = results.read(place / "result.json")
            (path,) = manifests(place)
            manifest = EngineManifest.read(path)
            manifest.check_files()
            (measured,) = result.measured
        except (ConvcutError, ValueError):  # ValueError: not one manifest, or not one engine
            return None
        if measured.subject.sha256 != manifest.sha256:
            return None
        return _Done(fate, against, result, Opponent(cell.name, path))

    def _place(self, cell: Cell) -> Path:
        return self._folder / "engines" / cell.name

    def _record(self, cell: Cell) -> Path:
        return self._place(cell) / "cell.json"

    def _write(self) -> None:
        result = self.result()
        if result.measured:
            results.write(self._folder / RESULT, result)
        else:
            (self._folder / RESULT).unlink(missing_ok=True)

    def result(self) -> Result:
        """All that is done, as one."""
        parts = [done.result for done in self._done.values() if done.result is not None]
        unfinished = len(self._done) < len(self._tried)
        return Result(
            command=self._command,
            date=now(),
            commit=self._commit,
            versions=self._versions,
            machine=self._machine,
            complete=not unfinished and all(f.kind != CRASHED for f in self.fates.values()),
            measured=tuple(one for part in parts for one in part.measured),
            compared=tuple(one for part in parts for one in part.compared),
            skipped={
                name: f"{fate.kind}: {fate.reason}"
                for name, fate in self.fates.items()
                if fate.kind != PASSED
            },
        )

    def to_json(self) -> dict[str, Any]:
        """The result, and the fate of every cell."""
        cells = {name: {"fate": f.kind, "reason": f.reason} for name, f in self.fates.items()}
        return {**results.to_json(self.result()), "cells": cells}


def _command(options: Namespace, asked: Asked) -> str:
    """With the names of networks, and no folder."""
    words = ["convcut-trt bench --sweep", *(Path(name).stem for name in options.engines)]
    words += [
        f"--{axis} {','.join(getattr(options, axis))}"
        for axis in AXES
        if getattr(options, axis) is not None
    ]
    words.append(f"--batch {','.join(map(str, asked.batches))}")
    words.append(f"--seconds {asked.seconds:g} --openings {asked.openings}")
    if asked.data is not None:
        words.append(f"--data {Path(asked.data).resolve().name}")
    return " ".join(words)
