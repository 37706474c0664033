"""The devices' datasheet figures: complete, sourced or doubted, and in proportion."""

from __future__ import annotations

from dataclasses import fields

import pytest

from convcut_trt.devices import Device, Figures, find, known, supported
from convcut_trt.errors import InputError

NUMBERS = [
    field.name for field in fields(Figures) if field.name not in ("variant", "sources", "doubtful")
]
ROWS = [
    pytest.param(device, figures, id=f"{key} {figures.variant}")
    for key, device in known().items()
    for figures in device.variants
]


def test_the_devices_that_are_planned_with_have_figures() -> None:
    named = {key for key, device in known().items() if device.variants}
    assert named == {
        *("rtx4060ti", "rtx4060", "rtx4090", "l4", "t4", "a2", "h200"),
        *("orin-nano", "orin-nx", "agx-orin", "agx-thor"),
    }
    assert not known()["sm86"].variants
    assert all(known()[key].note for key in ("jetson-nano", "xavier-nx"))
    assert not {"jetson-nano", "xavier-nx"} & set(supported())


@pytest.mark.parametrize(("device", "figures"), ROWS)
def test_every_figure_is_above_zero_and_has_a_source_or_a_doubt(
    device: Device, figures: Figures
) -> None:
    for name in NUMBERS:
        assert getattr(figures, name) > 0, name
        assert name in figures.sources or name in figures.doubtful, name
    assert set(figures.sources) | set(figures.doubtful) <= set(NUMBERS)
    assert all(url.startswith(("https://", "http://")) for url in figures.sources.values())
    assert all(figures.doubtful.values())


@pytest.mark.parametrize(("device", "figures"), ROWS)
def test_the_figures_of_a_row_are_in_proportion(device: Device, figures: Figures) -> None:
    lanes = 2 * figures.cuda_cores * figures.clock_mhz / 1e6
    assert figures.fp32_tflops == pytest.approx(lanes, rel=0.01)
    assert figures.cuda_cores == figures.sms * (64 if device.compute_capability == (7, 5) else 128)
    assert figures.int8_tops == pytest.approx(2 * figures.fp16_fp16_tflops, rel=0.01)
    # GeForce cards add up in FP32 at half the speed, the others at the same.
    slower = 2 if "GeForce" in device.name else 1
    assert figures.fp16_fp16_tflops == pytest.approx(slower * figures.fp16_tflops, rel=0.01)
    # Dense: on every architecture here a tensor core does 4 to 32 times what its SM's FP32 lanes do.
    assert 3.9 <= figures.fp16_fp16_tflops / figures.fp32_tflops <= 33


def test_more_power_is_never_slower() -> None:
    for device in known().values():
        modes = sorted(device.variants, key=lambda figures: figures.power_w)
        if "Jetson AGX" not in device.name and "Nano" not in device.name:
            continue  # Orin NX clocks lower at 25 W with all SMs than at 15 W with half of them
        for lower, higher in zip(modes, modes[1:], strict=False):
            assert lower.int8_tops <= higher.int8_tops
            assert lower.bandwidth_gb_s <= higher.bandwidth_gb_s


@pytest.mark.parametrize(
    ("key", "variant", "sms", "clock_mhz", "memory_mhz"),
    [
        ("orin-nano", "25 W", 8, 918, 3199),
        ("orin-nano", "15 W", 8, 612, 2133),
        ("orin-nano", "MAXN (Super)", 8, 1020, 3199),
        ("orin-nx", "40 W (Super)", 8, 1173, 3199),
        ("orin-nx", "25 W", 8, 408, 3199),
        ("orin-nx", "15 W", 4, 612, 3199),
        ("orin-nx", "10 W", 4, 612, 2133),
    ],
)
def test_power_modes_are_those_of_nvidias_power_model(
    key: str, variant: str, sms: int, clock_mhz: float, memory_mhz: float
) -> None:
    figures = find(key).figures(variant)
    assert (figures.variant, figures.sms, figures.clock_mhz) == (variant, sms, clock_mhz)
    # 128 bits, two transfers a clock
    assert figures.bandwidth_gb_s == pytest.approx(memory_mhz * 2 * 16 / 1e3, rel=2e-3)
    assert figures.int8_tops == pytest.approx(sms * 4096 * clock_mhz / 1e6, rel=1e-3)


def test_a_variant_is_found_by_its_name() -> None:
    card = find("RTX 4060 Ti")
    assert card.variants[0] is card.figures() is card.figures("8GB")
    assert (card.figures("8 GB").memory_gb, card.figures("16 GB").memory_gb) == (8, 16)
    orin = find("orin-nano")
    assert orin.figures("15 w").bandwidth_gb_s < orin.figures().bandwidth_gb_s


@pytest.mark.parametrize(
    ("key", "variant", "says"),
    [
        ("sm86", None, "no datasheet figures.*rtx4060ti"),
        ("rtx3060", "12 GB", "no datasheet figures"),
        ("agx-orin", "45 W", "no variant '45 W'.*'MAXN', '50 W'"),
        ("rtx4090", "", None),
    ],
)
def test_figures_that_there_are_not(key: str, variant: str | None, says: str | None) -> None:
    if says is None:
        assert find(key).figures(variant) is find(key).variants[0]
        return
    with pytest.raises(InputError, match=says):
        find(key).figures(variant)


def test_a_device_can_be_told_apart_and_kept_in_a_set() -> None:
    assert len(set(known().values())) == len(known())
