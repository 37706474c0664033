"""Prints the API of an importable TensorRT package as JSON: ``python dump.py PACKAGE [LIBRARY ...]``.

Run in a process of its own, because two versions do not fit into one. The shared libraries are
loaded first, so that the package finds them. Every public name becomes one entry::

    "ILayer.type": {"returns": "LayerType", "settable": false}
    "Runtime.deserialize_cuda_engine": {"calls": [["serialized_engine"]], "returns": "ICudaEngine"}

``calls`` are the overloads with their argument names, ``=`` behind those with a default; an
argument without a name is ``*``. What pybind11 knows of them stands in its docstrings only.
"""

import ctypes
import importlib
import inspect
import json
import re
import sys
from typing import Any

Entry = dict[str, Any]
# As Python knows a class, and as C++ does where the class was not yet known to pybind11.
_OWN = re.compile(r"\btensorrt\w*\.tensorrt\w*\.([\w.]+)|\bnv\w+::(?:\w+::)*(\w+)")


def dump(module: Any) -> dict[str, Entry]:
    """All names of a package with what is known of them."""
    api: dict[str, Entry] = {}
    for name, value in vars(module).items():
        if not name.startswith("_") or name == "__version__":
            _add(api, name, value)
    return api


def _add(api: dict[str, Entry], path: str, value: Any) -> None:
    if not inspect.isclass(value):
        api[path] = _entry(path, value)
        return
    made = _calls(getattr(value, "__init__", None), "__init__", method=True)
    api[path] = {**made, "returns": path}
    for name in dir(value):
        if name.startswith("_") and name != "__members__":
            continue
        member = inspect.getattr_static(value, name)
        if inspect.isclass(member):
            if f"{path}.{name}" not in api and member is not value:
                _add(api, f"{path}.{name}", member)
        elif type(member).__name__ in ("property", "pybind11_static_property"):
            returns = _calls(member.fget, "", method=True).get("returns", "?")
            api[f"{path}.{name}"] = {"returns": returns, "settable": member.fset is not None}
        else:
            api[f"{path}.{name}"] = _entry(name, member, method=True)


def _entry(path: str, value: Any, method: bool = False) -> Entry:
    if isinstance(value, (staticmethod, classmethod)):
        value, method = value.__func__, False
    if callable(value):
        return _calls(value, path.rpartition(".")[2], method=method)
    if type(value).__module__.startswith("tensorrt"):
        return {"returns": type(value).__qualname__, "settable": False}
    return {"returns": type(value).__name__, "settable": False}


def _calls(function: Any, name: str, *, method: bool) -> Entry:
    line = re.compile(rf"^(?:\d+\. )?(?:{re.escape(name)})?\((.*)\) -> (.+)$", re.MULTILINE)
    found = line.findall(getattr(function, "__doc__", None) or "")
    if not found:
        return {}
    calls = [[_argument(text) for text in _split(inside)][method:] for inside, _ in found]
    returns = _OWN.sub(lambda own: own[1] or own[2], found[0][1].rstrip(": "))
    return {"calls": calls, "returns": returns}


def _split(inside: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in inside.replace("->", ""):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _argument(text: str) -> str:
    name = re.split(r"[:=]", text)[0].strip()
    unnamed = re.fullmatch(r"arg\d+", name)
    return ("*" if unnamed else name) + ("=" if re.search(r" = |^\w+=", text) else "")


if __name__ == "__main__":
    for library in sys.argv[2:]:
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    json.dump(dump(importlib.import_module(sys.argv[1])), sys.stdout)
