"""Reads our source and lists what it uses of TensorRT, with the class of every object it is used of.

``trt`` is the module wherever it stands. What comes out of it has the class that the API gives. Where
our own code says ``Any`` the name decides, by a table; an attribute of an ``Any`` that is not in the
table is a problem, so that nothing stays unseen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Api = Mapping[str, Mapping[str, Any]]

OBJECTS: dict[str, str | None] = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "error": "ParserError",
    "image": "ITensor",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "output": "ITensor",
    "parser": "OnnxParser",
    "runtime": "Runtime",
    "runtime_cache": "IRuntimeCache",
    "runtime_config": "IRuntimeConfig",
    "severity": "ILogger.Severity",
    "source": "ITensor",
    "t": "ITensor",
    "dtype": "DataType",
    "tensor": "ITensor",
    "backends/trt_engine.py: config": "IRuntimeConfig",
}
"""Class of what a name stands for, without leading underscores, in all files or, as ``file: name``, in
one. None: not TensorRT's."""

# Kinds of values: an instance of a TensorRT class is the name of its class.
MODULE, UNKNOWN, PLAIN = "<module>", "<unknown>", "<plain>"


@dataclass(frozen=True)
class Class:
    """A class itself, not an instance."""

    path: str


@dataclass(frozen=True)
class Many:
    """A container of values of one kind."""

    kind: Kind


@dataclass(frozen=True)
class Row:
    """Values side by side, each with its kind."""

    kinds: tuple[Kind, ...]


Kind = str | Class | Many | Row
_PLAIN_TYPES = ("int", "bool", "str", "None", "float", "bytes", "tuple", "memoryview", "list[int]")


@dataclass(frozen=True)
class Use:
    """One use of a name of TensorRT.

    Attributes:
        path: ``Class.member``, or a name of the module.
        line: ``file:line``.
        call: Number of positional arguments and the keywords; None where it is not called.
        store: Whether it is assigned to.
        asked: The features that the function or class around it asks for.
    """

    path: str
    line: str
    call: tuple[int, tuple[str, ...]] | None
    store: bool
    asked: frozenset[str]


def our_any(sources: Iterable[str]) -> dict[str, Kind]:
    """Our own functions that give back ``Any``, and fields of classes that hold it, by name."""
    found: dict[str, Kind] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and (kind := _annotated(node.returns)) != PLAIN:
                found[node.name] = kind
            for field in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                    continue
                if (kind := _annotated(field.annotation)) != PLAIN:
                    found[field.target.id] = kind
    return found


def _annotated(node: ast.expr | None) -> Kind:
    text = "" if node is None else ast.unparse(node).replace("NDArray[Any]", "NDArray")
    if text in ("Any", "Any | None"):
        return UNKNOWN
    return Many(UNKNOWN) if "[Any" in text or " Any" in text else PLAIN


class Scan:
    """What one source uses.

    Args:
        source: Text of a module.
        name: Of the file, for messages.
        api: Every name that any version has.
        ours: Of ``our_any``.

    Attributes:
        uses: In the order of the text.
        problems: What could not be told, or exists nowhere, each with its line.
    """

    def __init__(self, source: str, name: str, api: Api, ours: Mapping[str, Kind]) -> None:
        self.uses: list[Use] = []
        self.problems: list[str] = []
        self._name, self._api, self._ours = name, api, ours
        self._asked: frozenset[str] = frozenset()
        tree = ast.parse(source)
        self._fields: dict[str, Kind] = {}
        for final in (False, True):  # methods use fields that stand further down
            self.uses, self.problems = [], []
            outer: dict[str, Kind] = {}
            for statement in tree.body:
                self._asked = frozenset(
                    node.attr
                    for node in ast.walk(statement)
                    if isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "Feature"
                )
                self._run([statement], outer)
            if final:
                self.problems = list(dict.fromkeys(self.problems))

    def _run(self, body: Iterable[ast.AST], env: dict[str, Kind]) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._function(node, env)
            elif isinstance(node, ast.ClassDef):
                self._class(node, env)
            elif isinstance(node, ast.Assign):
                kind = self._eval(node.value, env)
                for target in node.targets:
                    self._bind(target, kind, env)
            elif isinstance(node, ast.AnnAssign):
                kind = self._eval(node.value, env) if node.value else PLAIN
                declared = _annotated(node.annotation)
                told = kind in (PLAIN, UNKNOWN) or isinstance(kind, Row)
                self._bind(node.target, declared if told else kind, env)
                if declared == PLAIN and isinstance(node.target, ast.Name):
                    env[f"{node.target.id}:"] = PLAIN  # mypy holds it to that
            elif isinstance(node, ast.For):
                self._bind(node.target, _element(self._eval(node.iter, env)), env)
                self._run([*node.body, *node.orelse], env)
            elif isinstance(node, ast.expr):
                self._eval(node, env)
            elif isinstance(node, ast.withitem):
                kind = self._eval(node.context_expr, env)
                if node.optional_vars is not None:
                    self._bind(node.optional_vars, kind, env)
            else:
                self._run(ast.iter_child_nodes(node), env)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, outer: dict[str, Kind]
    ) -> None:
        env = dict(outer)
        a = node.args
        for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs):
            env[argument.arg] = _annotated(argument.annotation)
        self._run([*a.defaults, *(d for d in a.kw_defaults if d), *node.body], env)

    def _class(self, node: ast.ClassDef, env: dict[str, Kind]) -> None:
        for base in node.bases:
            kind = self._eval(base, env)
            if not isinstance(kind, Class):
                continue
            for method in node.body:  # what TensorRT calls has to be called so, with so much
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    count = len(method.args.args) - 1
                    self._use(f"{kind.path}.{method.name}", method, call=(count, ()))
        self._run(node.body, dict(env))

    def _bind(self, target: ast.expr, kind: Kind, env: dict[str, Kind]) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = PLAIN if kind == UNKNOWN and f"{target.id}:" in env else kind
        elif isinstance(target, ast.Tuple | ast.List):
            kinds: tuple[Kind, ...] = (_element(kind),) * len(target.elts)
            if isinstance(kind, Row) and len(kind.kinds) == len(kinds):
                kinds = kind.kinds
            for element, its in zip(target.elts, kinds, strict=True):
                self._bind(element, its, env)
        elif isinstance(target, ast.Attribute):
            owner = self._eval(target.value, env)
            if target.attr == "__class__" and isinstance(kind, Class):
                self._bind(target.value, kind.path, env)  # TensorRT's way to a layer's own class
            elif owner == PLAIN:
                known = self._fields.get(target.attr, PLAIN)
                self._fields[target.attr] = kind if known in (PLAIN, UNKNOWN) else known
            else:
                self._attribute(owner, target, store=True)
        else:
            self._run(ast.iter_child_nodes(target), env)

    def _eval(self, node: ast.expr, env: dict[str, Kind]) -> Kind:
        if isinstance(node, ast.Name):
            return MODULE if node.id == "trt" else env.get(node.id, PLAIN)
        if isinstance(node, ast.Attribute):
            return self._attribute(self._eval(node.value, env), node)
        if isinstance(node, ast.Call):
            return self._call(node, env)
        if isinstance(node, ast.Subscript):
            owner = self._eval(node.value, env)
            self._eval(node.slice, env)
            return _element(owner)
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            inner = dict(env)
            for part in node.generators:
                self._bind(part.target, _element(self._eval(part.iter, inner)), inner)
                self._run(part.ifs, inner)
            if isinstance(node, ast.DictComp):
                self._eval(node.key, inner)
            return Many(
                self._eval(node.value if isinstance(node, ast.DictComp) else node.elt, inner)
            )
        if isinstance(node, ast.NamedExpr):
            kind = self._eval(node.value, env)
            self._bind(node.target, kind, env)
            return kind
        if isinstance(node, ast.Lambda):
            return self._eval(node.body, dict(env))
        # Any other expression may be one of its parts, as in `a if b else c` and `a or b`.
        kinds = [self._eval(c, env) for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)]
        if isinstance(node, ast.IfExp | ast.BoolOp):
            return next((kind for kind in kinds if kind != PLAIN), PLAIN)
        if isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            return Row(tuple(kinds))
        return PLAIN

    def _call(self, node: ast.Call, env: dict[str, Kind]) -> Kind:
        inside = [self._eval(argument, env) for argument in node.args]
        inside += [self._eval(keyword.value, env) for keyword in node.keywords]
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        unpacked = any(keyword.arg is None for keyword in node.keywords)
        call = (len(node.args), tuple(k.arg for k in node.keywords if k.arg))
        if isinstance(node.func, ast.Attribute):
            owner = self._eval(node.func.value, env)
            kind = self._attribute(owner, node.func, call=None if starred or unpacked else call)
            if isinstance(owner, Many | Row):
                return _element(owner) if node.func.attr in ("get", "pop") else owner
        else:
            kind = self._eval(node.func, env)
            if isinstance(node.func, ast.Name) and kind == PLAIN:
                elements = tuple(_element(k) for k in inside[: len(node.args)])
                if node.func.id == "zip":
                    return Many(Row(elements))
                if node.func.id == "enumerate":
                    return Many(Row((PLAIN, *elements[:1])))
                if node.func.id in ("reversed", "list", "tuple", "sorted") and elements:
                    return Many(elements[0])
                kind = self._ours.get(node.func.id, PLAIN)
        if isinstance(kind, Class):
            if not isinstance(node.func, ast.Attribute):  # a class under another name
                self._use(kind.path, node, call=call)
            return kind.path
        return kind

    def _attribute(
        self,
        owner: Kind,
        node: ast.Attribute,
        *,
        call: tuple[int, tuple[str, ...]] | None = None,
        store: bool = False,
    ) -> Kind:
        if owner == UNKNOWN:
            owner = self._by_name(node)
        if owner == PLAIN:
            if node.attr.strip("_") == "trt":
                return MODULE
            return self._fields.get(node.attr, self._ours.get(node.attr, PLAIN))
        if isinstance(owner, Many | Row):
            return PLAIN
        of = owner.path if isinstance(owner, Class) else owner
        path = node.attr if owner == MODULE else f"{of}.{node.attr}"
        if node.attr.startswith("__") and node.attr not in ("__version__", "__members__"):
            return PLAIN  # every object of Python's has it
        return self._use(path, node, call=call, store=store)

    def _by_name(self, node: ast.Attribute) -> Kind:
        value = node.value
        name = value.id if isinstance(value, ast.Name) else getattr(value, "attr", "")
        for key in (f"{self._name}: {name.strip('_')}", name.strip("_")):
            if key in OBJECTS:
                return OBJECTS[key] or PLAIN
        self._problem(node, f"{ast.unparse(node)}: {name or 'it'} is Any: name it in OBJECTS")
        return PLAIN

    def _use(
        self,
        path: str,
        node: ast.AST,
        *,
        call: tuple[int, tuple[str, ...]] | None = None,
        store: bool = False,
    ) -> Kind:
        if path not in self._api:
            self._problem(node, f"no TensorRT has {path}")
            return PLAIN
        self.uses.append(Use(path, self._line(node), call, store, self._asked))
        entry = self._api[path]
        returns = entry.get("returns", "object")
        if returns == path:
            return Class(path)
        many = isinstance(returns, str) and returns.startswith("list[")
        kind = returns[5:-1] if many else returns
        kind = kind if kind in self._api else PLAIN if returns in _PLAIN_TYPES else UNKNOWN
        return Many(kind) if many else kind

    def _problem(self, node: ast.AST, text: str) -> None:
        self.problems.append(f"{self._line(node)}: {text}")

    def _line(self, node: ast.AST) -> str:
        return f"{self._name}:{getattr(node, 'lineno', 0)}"


def _element(kind: Kind) -> Kind:
    if isinstance(kind, Many):
        return kind.kind
    if isinstance(kind, Row):
        return next((one for one in kind.kinds if one != PLAIN), PLAIN)
    return kind if kind in (PLAIN, UNKNOWN) else PLAIN if kind == "Dims" else UNKNOWN
