"""Pretrained weights: a whole ConvNeXt loads into a cut trunk, and nothing else does."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from convcut_trt.errors import InputError
from export import weights
from export.model import Cut, Trunk, create_backbone
from export.weights import load_trunk, summary

NAME = "convnext_tiny"
OPTIONS: dict[str, Any] = {"depths": [1, 2, 2, 1], "dims": [8, 16, 24, 24], "num_classes": 5}


def whole(**changes: Any) -> nn.Module:
    torch.manual_seed(3)
    return create_backbone(NAME, OPTIONS | changes)


def trunk(cut: str = "stage3.block1.norm", **changes: Any) -> Trunk:
    torch.manual_seed(4)
    return Trunk(create_backbone(NAME, OPTIONS | changes), Cut.parse(cut))


def as_meta_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of Meta's own files."""
    renamed = {}
    for key, value in tensors.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", key)
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        key = key.replace("head.norm.", "norm.").replace("head.fc.", "head.")
        renamed[key] = value
    return renamed


def written(path: Path, tensors: dict[str, Tensor]) -> str:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return str(path)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "meta.pth", "wrapped.bin"])
def test_a_whole_network_loads_into_the_trunk(tmp_path: Path, file: str) -> None:
    tensors: Any = dict(whole().state_dict())
    expected = dict(tensors)
    if file == "meta.pth":
        tensors = {"model": as_meta_names(tensors)}
    elif file == "wrapped.bin":
        tensors = {"state_dict": tensors, "epoch": 7}
    own = trunk()
    dropped = load_trunk(own, written(tmp_path / file, tensors), NAME, OPTIONS)
    for key, value in own.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
    assert set(dropped) == expected.keys() - own.state_dict().keys()
    assert {"head.fc.weight", "stages.3.blocks.0.gamma", "stages.2.blocks.1.mlp.fc1.bias"} <= set(
        dropped
    )
    assert "(head, stages.2, stages.3)" in summary("file", dropped)


def test_exactly_the_trunk_loads_too(tmp_path: Path) -> None:
    given, own = Trunk(whole(), Cut.parse("stage2")), trunk("stage2")
    file = written(tmp_path / "trunk.safetensors", dict(given.state_dict()))
    assert load_trunk(own, file, NAME, OPTIONS) == ()
    torch.testing.assert_close(dict(own.state_dict()), dict(given.state_dict()))


def test_a_grey_stem_gets_the_sum_over_the_colours(tmp_path: Path) -> None:
    tensors = dict(whole().state_dict())
    grey = trunk(in_chans=1)
    file = written(tmp_path / "w.safetensors", tensors)
    load_trunk(grey, file, NAME, OPTIONS | {"in_chans": 1})
    torch.testing.assert_close(
        grey.state_dict()["stem.0.weight"], tensors["stem.0.weight"].sum(1, keepdim=True)
    )


def test_timm_is_asked_for_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, options: Any = None, *, pretrained: bool = False) -> nn.Module:
        model = create_backbone(name, options)
        if pretrained:
            nn.init.constant_(model.get_parameter("stem.0.weight"), 0.25)
        return model

    monkeypatch.setattr(weights, "create_backbone", create)
    own = trunk()
    assert "head.fc.weight" in load_trunk(own, "timm", NAME, OPTIONS)
    assert bool((own.get_parameter("stem.0.weight") == 0.25).all())


def test_without_network_a_local_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, options: Any = None, *, pretrained: bool = False) -> nn.Module:
        if pretrained:
            raise ConnectionError("no route to host")
        return create_backbone(name, options)

    monkeypatch.setattr(weights, "create_backbone", create)
    with pytest.raises(InputError, match=r"no route to host.*network\.weights"):
        load_trunk(trunk(), "timm", NAME, OPTIONS)


class Code:
    """What an attacker pickles: a command that runs when the file is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def _without(part: str) -> dict[str, Tensor]:
    return {key: value for key, value in whole().state_dict().items() if part not in key}


@pytest.mark.parametrize(
    ("tensors", "hint"),
    [
        (lambda: whole(dims=[12, 16, 24, 24]).state_dict(), r"is \[12.* \[8.* is needed"),
        (lambda: whole(depths=[1, 2, 1, 1]).state_dict(), r"stages\.2\.blocks\.1.*missing"),
        (
            lambda: whole(depths=[1, 2, 3, 1]).state_dict(),
            r"more tensors such as stages\.2\.blocks\.2",
        ),
        (lambda: _without("gamma"), "gamma are missing"),
        (lambda: _without("downsample"), "downsample"),
        (lambda: {"stem.0.weight": torch.zeros(1)}, "missing"),
        (lambda: {}, "missing"),
        (lambda: {**whole().state_dict(), "stem.0.bias": torch.full((8,), torch.nan)}, "finite"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_another_network_are_refused(
    tmp_path: Path, tensors: Callable[[], dict[str, Tensor]], hint: str, suffix: str
) -> None:
    own = trunk()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    file = written(tmp_path / f"w{suffix}", dict(tensors()))
    with pytest.raises(InputError, match=hint):
        load_trunk(own, file, NAME, OPTIONS)
    torch.testing.assert_close(dict(own.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_broken_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    written(path, dict(whole().state_dict()))
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"<html>404</html>", bytes(range(256)) * 40):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="download"):
            load_trunk(trunk(), str(path), NAME, OPTIONS)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "was-run"
    for path in (tmp_path / "plain.pth", tmp_path / "zip.pth"):
        evil = {"stem.0.weight": Code(f"touch {witness}")}
        if path.name == "plain.pth":
            path.write_bytes(pickle.dumps(evil, protocol=2))
        else:
            torch.save(evil, path)
        with pytest.raises(InputError, match="holds no weights"):
            load_trunk(trunk(), str(path), NAME, OPTIONS)
        assert not witness.exists()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "list.pth")
    for source, hint in (("none.pth", "no weights"), (str(tmp_path / "list.pth"), "holds no")):
        with pytest.raises(InputError, match=hint):
            load_trunk(trunk(), source, NAME, OPTIONS)
