"""Writes docs/api.md, the reference of the public names, from their docstrings: ``python docs/make_api.py``.

A test writes it again and compares: whoever changes a docstring runs this.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

PAGE = Path(__file__).with_name("api.md")
PARTS = {
    "convcut_trt": """Engine Prediction load Stream EngineManifest ModelSpec""",
    "convcut_trt.errors": """ConvcutError InputError SpecError ManifestError EngineMismatch BackendMissing
        BuildError CudaError GateFailed""",
    "convcut_trt.stream": "Result",
    "convcut_trt.track": "Tracking Face",
    "convcut_trt.health": "Health Percentiles",
    "convcut_trt.sources": "Frame open_source",
    "convcut_trt.faces.detect": "Detector detector whole_picture",
    "convcut_trt.robots.sinks": "Sink About open_sink record",
    "convcut_trt.robots.messages": """Time Header Image CompressedImage Expression IdsList
        NormalizedRegionOfInterest2D Detection2DArray Detection2D ObjectHypothesisWithPose ObjectHypothesis
        LabelInfo VisionClass DiagnosticArray DiagnosticStatus KeyValue""",
    "convcut_trt.home": "Model find_model engine_folder",
    "convcut_trt.pictures": "load_picture",
    "convcut_trt.preprocess": "faces",
    "convcut_trt.triton": "write_repository",
    "convcut_trt.plugin.onnx_node": "with_plugin_tail",
    "convcut_trt.gpu.pycuda_adapter": "PycudaEngine",
}
"""Module -> its public names, in the order of the page."""
_HEAD = """\
# API reference

Made from docstrings by `python docs/make_api.py`, which is to be run again where one changes.
How to use these names: [in your program](program.md).
Names of `convcut_trt` are imported from there: `import convcut_trt as cc`. Errors are too.

"""
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
_ENTRY = re.compile(r"^(\*{0,2}\w+): (.*)$", re.DOTALL)


class _Plain(str):
    """A text that ``inspect`` prints without quotes, as annotations are written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def text() -> str:
    """The whole page."""
    lines = [f"- [`{module}`](#{module.replace('.', '')})" for module in PARTS]
    lines.append("")
    for module, names in PARTS.items():
        lines += [f"## {module}", ""]
        for name in names.split():
            lines += _documented(name, getattr(import_module(module), name))
    return _HEAD + "\n".join(lines)


def _documented(name: str, value: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    error = isinstance(value, type) and issubclass(value, Exception)
    if not (error or getattr(value, "_is_protocol", False)):
        yield from ("```text", _call(name, value), "```", "")
    yield from _prose(value)
    start = vars(value).get("__init__") if isinstance(value, type) and not error else None
    if start is not None and start.__doc__:  # dataclasses have one without a text
        yield from _prose(start)
    for member, method in _methods(value) if isinstance(value, type) else ():
        if isinstance(method, property):
            kind = inspect.signature(method.fget).return_annotation  # type: ignore[arg-type]
            call = f"{member}: {kind}"
        else:
            call = _call(member, _function(method))
        yield from (f"#### {name}.{member}", "", "```text", call, "```", "")
        yield from _prose(method)


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class itself defines for its users, with a docstring."""
    for name, value in vars(kind).items():
        shown = not name.startswith("_") or name == "__call__"
        if shown and (isinstance(value, property) or callable(_function(value))) and value.__doc__:
            yield name, value


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)  # of a classmethod


def _call(name: str, value: Any) -> str:
    """``name(argument: type, ...) -> type``, one argument a line where it is long."""
    signature = inspect.signature(value)
    arguments = [
        each.replace(annotation=_plain(each.annotation), default=_default(each.default))
        for each in signature.parameters.values()
        if each.name not in ("self", "cls")
    ]
    back = signature.empty if isinstance(value, type) else _plain(signature.return_annotation)
    line = name + str(signature.replace(parameters=arguments, return_annotation=back))
    if len(line) <= 100:
        return line
    told = str(inspect.Signature(return_annotation=back)).removeprefix("()")
    each = [str(argument) for argument in arguments]
    keyword = next((i for i, one in enumerate(arguments) if one.kind is one.KEYWORD_ONLY), None)
    if keyword is not None:
        each.insert(keyword, "*")
    return "\n".join([f"{name}(", *(f"    {one}," for one in each), f"){told}"])


def _plain(annotation: Any) -> Any:
    return _Plain(annotation) if isinstance(annotation, str) else annotation


def _default(value: Any) -> Any:
    """As it is written on any machine: functions by their names, paths without their system's kind."""
    if inspect.isbuiltin(value) or inspect.isfunction(value):
        return _Plain(f"{value.__module__}.{value.__qualname__}")
    return _Plain(f"Path({str(value)!r})") if isinstance(value, PurePath) else value


def _prose(value: Any) -> Iterator[str]:
    """A docstring as Markdown: sections become lists."""
    first, *sections = _SECTION.split(inspect.getdoc(value) or "")
    yield from (_marked(first.strip()), "")
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        yield from (f"**{title}**", "")
        content = inspect.cleandoc(body)
        if title in ("Returns", "Yields"):
            yield _marked(content)
        else:
            yield from (f"- {_marked(entry)}" for entry in _entries(content))
        yield ""


def _entries(body: str) -> Iterator[str]:
    """The entries of a section, each on one line; lines that are further in go on with the one above."""
    for entry in re.split(r"\n(?=\S)", body):
        one = " ".join(entry.split())
        found = _ENTRY.match(one)
        yield f"`{found[1]}`: {found[2]}" if found else one


def _marked(text: str) -> str:
    """Code marks of Markdown for those of reStructuredText; indented lines are code already."""
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(text(), "utf-8")
