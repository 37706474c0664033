"""What the robot-side verbs do: each takes parsed arguments, prints, and returns the exit code."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convcut_trt import gates
from convcut_trt.errors import GateFailed
from convcut_trt.gates import Gate
from convcut_trt.home import engine_folder, find_model
from convcut_trt.manifest import EngineManifest
from convcut_trt.progress import Progress
from convcut_trt.spec import ModelSpec

if TYPE_CHECKING:
    from convcut_trt.gates.judged import Judged


def build(options: Namespace) -> int:
    """The verb ``build``."""
    from convcut_trt import triton
    from convcut_trt.build import build as build_engine
    from convcut_trt.dry_run import dry_run
    from convcut_trt.request import Request, choose_backend

    model = find_model(options.model)
    request = Request(
        precision=options.precision,
        output=options.output or engine_folder(),
        backend=options.backend,
        targets=tuple(options.target),
        batch=options.batch,
        judged=_judged(options.data, options.gate_pictures, model.spec),
        budgets=dict(options.budget),
        placement=options.placement,
        mlp=options.mlp,
        ranges=options.ranges,
        tail=options.tail,
        workspace_mib=options.workspace,
        timing_cache=options.timing_cache,
    )
    if options.layout == "triton":
        triton.check(choose_backend(options.backend, request.targets).flavour, request.tail)
    if options.dry_run:
        facts = dry_run(model, request)
        if options.json:
            print(json.dumps(facts))
        else:
            for key, value in facts.items():
                print(f"{key:20} {_short(value)}")
        return 0
    with _failing(as_json=options.json, published=False), Progress(quiet=options.json) as progress:
        manifest = build_engine(model, request, progress)
    served = None
    if options.layout == "triton":
        served = triton.write_repository(manifest, request.output / "triton")
    if options.json:
        layout = {} if served is None else {"triton": str(served)}
        print(json.dumps({"published": True, **layout, **_manifest_json(manifest)}))
        return 0
    _print_manifest(manifest)
    line = f"convcut-trt predict FILE --engine {manifest.path}"
    print(f"\nrun it with   {line}" if manifest.verified else f"\nrun it there with   {line}")
    if served is not None:
        print(f"version {served.name} of {manifest.name} for Triton, which serves the newest:")
        print(f"  tritonserver --model-repository={served.parents[1].resolve()}")
    return 0


def verify(options: Namespace) -> int:
    """The verb ``verify``."""
    from convcut_trt import verify as verifying

    manifest = verifying.read(options.engine)
    model = verifying.find_original(manifest, options.model)
    faces = _judged(options.data, options.gate_pictures, model.spec)
    with _failing(as_json=options.json, verified=False), Progress(quiet=options.json) as progress:
        manifest = verifying.verify(manifest, model, faces, progress, trust=options.trust)
    if options.json:
        print(json.dumps({"verified": True, **_manifest_json(manifest)}))
    else:
        _print_manifest(manifest)
    return 0


def predict(options: Namespace) -> int:
    """The verb ``predict``."""
    from convcut_trt.predict import predict as predict_faces

    return predict_faces(options)


def run(options: Namespace) -> int:
    """The verb ``run``."""
    from convcut_trt.robots.robot_loop import run as run_loop

    return run_loop(options)


def inspect(options: Namespace) -> int:
    """The verb ``inspect``."""
    from convcut_trt.datasets import hygiene
    from convcut_trt.inspection import describe

    found = describe(options.file)
    if options.json:
        print(json.dumps(found))
        return 0
    if found["kind"] == hygiene.KIND:
        print(hygiene.table(found))
        return 0
    for key, value in found.items():
        if key == "gates":
            print("\n" + gates.table([Gate(**gate) for gate in value]))
        else:
            print(f"{key:20} {_short(value)}")
    return 0


def doctor(options: Namespace) -> int:
    """The verb ``doctor``."""
    from convcut_trt.doctor import examine, text

    report = examine(options.engines or engine_folder())
    print(json.dumps(report) if options.json else text(report))
    return 0 if report["healthy"] else 1


@contextmanager
def _failing(*, as_json: bool, **outcome: bool) -> Iterator[None]:
    """Prints the gates of a build or a check that failed, then lets the error go on."""
    try:
        yield
    except GateFailed as error:
        if as_json:
            report = {**outcome, "reason": str(error), "gates": [asdict(g) for g in error.gates]}
            print(json.dumps(report))
        else:
            print(error.log)
        raise


def _judged(data: str | None, count: int | None, spec: ModelSpec) -> Judged | None:
    """The faces of ``--data`` and ``--gate-pictures``; None where neither was given."""
    from convcut_trt.gates import judged

    if data is None:
        return None if count is None else judged.bundled(spec.size, count)
    from convcut_trt.datasets import open_dataset

    return judged.from_dataset(open_dataset(data), spec, count)


def _manifest_json(manifest: EngineManifest) -> dict[str, Any]:
    values = asdict(manifest)
    values["manifest"] = str(values.pop("path"))
    values["engine"] = str(manifest.engine)
    del values["spec"]
    return values


def _print_manifest(manifest: EngineManifest) -> None:
    print(gates.table([Gate(**gate) for gate in manifest.gates]))
    for verdict in manifest.verdicts:
        print(f"\n{verdict}" if verdict is manifest.verdicts[0] else verdict)
    operations = "" if manifest.operations is None else f", {manifest.operations} operations"
    size = manifest.engine.stat().st_size / 1e6
    print(f"\n{manifest.engine}  {size:.1f} MB{operations}, {manifest.precision['text']}")
    print(f"verified on {manifest.verified_on}, with {manifest.judged_on}")


def _short(value: Any) -> str:
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return str(value)
