"""The Dockerfile without Docker: its steps, one by one, each stage in a folder and an environment of its own.

What needs an image of its own, users and folders at its root, is checked by reading it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.packaging.environments import EXAMPLES
from tests.test_packaging import ROOT, run

AS_ROOT = ("useradd ",)
"""Steps that change the image's own users and folders."""


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order: (keyword, the rest of its line)."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


@dataclass
class Stage:
    """One FROM: its files below a folder, its Python an environment there."""

    root: Path
    variables: dict[str, str]
    folder: str = "/"
    user: str = "root"
    entry: list[str] = field(default_factory=list)
    default: list[str] = field(default_factory=list)

    def at(self, path: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / os.path.normpath(os.path.join(self.folder, path)).lstrip("/")

    def run(self, command: list[str | Path]) -> str:
        # No compiler of kernels, as in the image.
        own = {
            "PATH": f"{self.root}/venv/bin:/usr/bin:/bin",
            "CMAKE_ARGS": "-DCMAKE_CUDA_COMPILER=",
        }
        return run(command, self.at("."), **{**own, **self.variables})


class Builder:
    """Runs the steps; an instruction that it does not know fails the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: dict[str, Stage] = {}
        self.stage = Stage(folder, {})
        self.arguments: dict[str, str] = {}

    def build(self) -> Stage:
        for keyword, rest in instructions():
            getattr(self, f"on_{keyword.lower()}")(rest)
        return self.stage

    def on_arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.arguments[name] = value
        self.stage.variables[name] = value

    def on_from(self, rest: str) -> None:
        base, _, name = rest.partition(" AS ")
        image = string.Template(base).substitute(self.arguments)
        assert re.fullmatch(r"python:3\.\d+-slim", image)
        name = name or str(len(self.stages))
        self.stage = self.stages[name] = Stage(self.folder / name, {})
        run([sys.executable, "-m", "venv", self.stage.root / "venv"], self.folder)

    def on_workdir(self, rest: str) -> None:
        self.stage.folder = rest
        self.stage.at(".").mkdir(parents=True, exist_ok=True)

    def on_copy(self, rest: str) -> None:
        *sources, to = shlex.split(rest)
        other = None
        if sources[0].startswith("--from="):
            other = self.stages[sources.pop(0).removeprefix("--from=")]
        for source in sources:
            path = other.at(source) if other else ROOT / source
            if path.is_dir():  # its contents, not itself
                caches = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, self.stage.at(to), ignore=caches, dirs_exist_ok=True)
            else:
                shutil.copy(path, self.stage.at(to))

    def on_run(self, rest: str) -> None:
        if not rest.startswith(AS_ROOT):
            assert not re.search(r"(^|\s)/", rest), (
                f"{rest}: a path of the image cannot be tried here"
            )
            self.stage.run(["sh", "-e", "-c", rest])

    def on_env(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.stage.variables[name] = str(self.stage.at(value)) if value.startswith("/") else value

    def on_user(self, rest: str) -> None:
        self.stage.user = rest

    def on_volume(self, rest: str) -> None:
        self.stage.at(rest).mkdir(parents=True, exist_ok=True)

    def on_entrypoint(self, rest: str) -> None:
        self.stage.entry = json.loads(rest)

    def on_cmd(self, rest: str) -> None:
        self.stage.default = json.loads(rest)


@pytest.mark.slow
def test_every_step_runs_and_the_entry_point_builds_and_predicts(tmp_path: Path) -> None:
    image = Builder(tmp_path).build()
    assert "usage: convcut-trt" in image.run([*image.entry, *image.default])
    few = ["--precision", "fp32", "--gate-pictures", "16"]
    image.run([*image.entry, "build", *few])
    assert list((image.root / "engines").glob("*.json"))
    portrait = [str(EXAMPLES / "astronaut.png"), "--box", "110,70,100,120"]
    assert "happiness" in image.run([*image.entry, "predict", *portrait])
    clip = [str(EXAMPLES / "faces.mp4"), "--every", "--frames", "5", "--to", "stdout"]
    assert len(image.run([*image.entry, "run", *clip]).splitlines()) == 5


def test_what_is_copied_is_all_that_docker_is_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copies = [rest.split() for keyword, rest in instructions() if keyword == "COPY"]
    taken = {
        source for first, *rest in copies if "--from" not in first for source in [first, *rest[:-1]]
    }
    assert ignored[0] == "*"
    assert ignored[-1] == "**/__pycache__"
    assert sent == taken
    assert all((ROOT / name).exists() for name in sent)


def test_it_runs_as_a_user_who_owns_the_volume() -> None:
    last = [(keyword, rest) for keyword, rest in instructions() if keyword != "ARG"]
    (user,) = [rest for keyword, rest in last if keyword == "USER"]
    (volume,) = [rest for keyword, rest in last if keyword == "VOLUME"]
    (as_root,) = [rest for keyword, rest in last if rest.startswith(AS_ROOT)]
    assert user != "root"
    assert re.search(rf"useradd .*\b{user} &&", as_root)
    assert f"install -d -o {user} -g {user} {volume}" in as_root
    assert last.index(("RUN", as_root)) < last.index(("USER", user))
    assert ("ENV", f"CONVCUT_HOME={volume}") in last
    assert [keyword for keyword, _ in last[last.index(("USER", user)) :]].count("RUN") == 0


def test_the_base_is_a_python_that_the_project_supports() -> None:
    (default,) = [rest for keyword, rest in instructions() if rest.startswith("PYTHON=")]
    version = default.removeprefix("PYTHON=")
    assert f"Python :: {version}" in (ROOT / "pyproject.toml").read_text()
