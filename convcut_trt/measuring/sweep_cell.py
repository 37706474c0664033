"""One engine of a sweep: built and held to its gates, measured, and compared with the first that passed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from convcut_trt.build import build
from convcut_trt.errors import InputError
from convcut_trt.gates import Step
from convcut_trt.home import find_model
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring.bench_verb import Run, accuracy_of
from convcut_trt.measuring.entrants import Entrant, engine_entrant
from convcut_trt.measuring.results import Compared, Result
from convcut_trt.measuring.sweep_plan import Asked, Cell

BUILDING, MEASURING, COMPARING = "building", "measuring", "comparing"


class Unwritable(InputError):
    """A file could not be written or read: that says something of the machine, and nothing of the cell."""


@dataclass(frozen=True)
class Opponent:
    """What a cell is compared with.

    Attributes:
        name: Of its cell.
        manifest: Of its engine.
    """

    name: str
    manifest: Path


def work(cell: Cell, asked: Asked, folder: Path, opponent: Opponent | None, step: Step) -> Result:
    """Does all that there is to do for a cell.

    Args:
        cell: Which.
        asked: How it is measured.
        folder: Where its engine goes.
        opponent: What it is compared with; None where it is the first.
        step: Called as ``step(phase, done, total)``: one of the three phases, and how far it is.

    Returns:
        The engine's part of the sweep's result.

    Raises:
        GateFailed: The engine failed at a gate, or answered wrong while it was measured.
        BuildError, InputError, BackendMissing: It cannot be built.
        Unwritable: The disk is full, for example.
    """
    try:
        step(BUILDING, 0, 1)
        manifest = build(find_model(cell.onnx), cell.request(folder, asked.batches), _quiet)
        entrant = _entrant(manifest, cell.name)
        step(MEASURING, 0, 1)
        run = Run([entrant], {cell.name: asked.batches}, asked.seconds, asked.openings, {})
        run.measure(_quiet, accuracy_of(asked.data, _quiet))
        compared: tuple[Compared, ...] = ()
        if opponent is not None:
            other = _entrant(EngineManifest.read(opponent.manifest), opponent.name)
            compared = _compare(entrant, other, asked, step)
        return replace(run.result(complete=True), compared=compared)
    except OSError as error:
        raise Unwritable(
            f"{cell.name} was stopped ({error}): free some space, then go on"
        ) from error
    except InputError as error:
        if isinstance(error.__context__, OSError):
            raise Unwritable(str(error)) from None
        raise


def _compare(one: Entrant, other: Entrant, asked: Asked, step: Step) -> tuple[Compared, ...]:
    found: list[Compared] = []
    total = len(asked.batches) * asked.openings
    for number, batch in enumerate(asked.batches):
        start = number * asked.openings

        def told(phase: str, done: int, of: int, start: int = start) -> None:
            step(COMPARING, start + done, total)

        batches = {one.name: (batch,), other.name: (batch,)}
        run = Run([one, other], batches, asked.seconds, asked.openings, {})
        run.compare(told)
        found += run.result(complete=True).compared
    return tuple(found)


def _entrant(manifest: EngineManifest, name: str) -> Entrant:
    """An engine by the name of its cell: files of two may have one name."""
    entrant = engine_entrant(manifest)
    return replace(entrant, subject=replace(entrant.subject, name=name))


def _quiet(phase: str, done: int, total: int) -> None:
    """The bar is of the whole sweep: what a build or a measurement does meanwhile does not show."""
