"""Who takes part in a bench: the engines that are named, and what ``--against`` adds to them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence

from convcut_trt.errors import BackendMissing, EngineMismatch, InputError
from convcut_trt.fit import build_command, find, newest
from convcut_trt.home import DEFAULT_MODEL, engine_folder
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring.entrants import Entrant, engine_entrant

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
PEERS = ("torch", "torch-compile", "onnxruntime", "openvino", "torch-tensorrt", "trtexec", "fer")
"""Other systems that ``--against`` takes; a checkout has them, in ``bench/peers.py``."""
ALL = "all"
Peers = Mapping[str, Callable[[Entrant], Entrant]]
"""Other systems by name: each makes an entrant that is asked the same as the engine it is compared with."""


def names_peers(against: Iterable[str]) -> bool:
    """Whether ``--against`` takes a checkout."""
    return any(name in (*PEERS, ALL) for name in against)


def chosen(options: Namespace, peers: Peers) -> tuple[list[Entrant], dict[str, str]]:
    """Those that take part, engines first.

    Peers are made for every engine of the first one's model; one that is the same for several takes part once.

    Args:
        options: ``engines``, ``against``, ``model`` and ``spin``, as ``cli`` parses them.
        peers: What ``against`` takes beside engines; ``all`` is all that are here.

    Returns:
        The entrants, and the peers that are not here: name -> why.

    Raises:
        InputError: Two engines of one name, or a peer that was named cannot be compared.
        EngineMismatch: An engine is for another machine, or none fits this one.
        BackendMissing: No peer that was asked for is here, and there is nothing else to compare.
    """
    named = [name for name in options.against if name in peers]
    rest = [name for name in options.against if name not in peers]
    if peers and ALL in rest:
        rest = [name for name in rest if name != ALL]
        wanted = list(peers)
    else:
        wanted = list(dict.fromkeys(named))
    manifests = [*_manifests(options.engines), *(_against(name, peers) for name in rest)]
    engines = [engine_entrant(one, options.model, spin=options.spin) for one in manifests]
    names = [entrant.name for entrant in engines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{twice[0]} is given twice: a result knows engines by their names")
    taking, skipped = {entrant.name: entrant for entrant in engines}, {}
    for name in wanted:
        found = _made(peers[name], engines, optional=name not in named)
        if isinstance(found, str):
            print(f"convcut-trt: {name} is left out: {found}", file=sys.stderr)
            skipped[name] = found
            continue
        for peer in found:
            taking.setdefault(peer.name, peer)
    if skipped and len(taking) < 2:
        name, why = next(iter(skipped.items()))
        raise BackendMissing(f"there is nothing to compare {engines[0].name} with: {name}: {why}")
    return list(taking.values()), skipped


def _made(
    peer: Callable[[Entrant], Entrant], engines: Sequence[Entrant], *, optional: bool
) -> list[Entrant] | str:
    """A peer beside each engine, or why it is beside none."""
    found, why = [], ""
    for engine in engines:
        if engine.subject.model != engines[0].subject.model:
            continue
        try:
            found.append(peer(engine))
        except BackendMissing as error:
            why = str(error)
        except InputError as error:
            if not optional:
                raise
            why = str(error)
    return found or why


def _manifests(engines: Sequence[str]) -> list[EngineManifest]:
    """Of the engines named: files, folders or models; without any the newest of each precision."""
    if engines:
        return [find(engine) for engine in engines]
    found = []
    for precision in PRECISIONS:
        try:
            found.append(newest(engine_folder(), DEFAULT_MODEL, precision, "auto"))
        except EngineMismatch:
            continue
    if not found:
        # the same once more, for its text: why each does not fit
        newest(engine_folder(), DEFAULT_MODEL, None, "auto")
    return found


def _against(name: str, peers: Peers) -> EngineManifest:
    try:
        return find(name)
    except EngineMismatch as error:
        raise EngineMismatch(
            f"--against {name} is neither an engine that fits this machine nor one of {', '.join(peers or PEERS)}; "
            f"build one: {build_command(DEFAULT_MODEL)}",
            log=str(error),
        ) from error
