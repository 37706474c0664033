"""DDS: addresses, domains and configurations, good and bad."""

from __future__ import annotations

import pytest
from cyclonedds.qos import Policy

from convcut_trt import optional
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.robots.dds_node import open_sink, open_source
from tests.results import ABOUT
from tests.robots.dds_loop.others import LOOPBACK, LabelInfo, reader, until


@pytest.mark.parametrize(
    "address",
    [
        "/a b",
        "//faces",
        "/faces/",
        "/1st",
        "/faces?domain=",
        "/faces?domain=233",
        "/faces?domain=-1",
        "/faces?domain=one",
        "/faces?domain=\N{SUPERSCRIPT TWO}",
        "/faces?domain=1&domain=2",
        "/faces?qos=best",
        "/\N{LATIN SMALL LETTER E WITH ACUTE}",
    ],
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(InputError, match="dds:/"):
        open_source(address)
    with pytest.raises(InputError, match="dds:/"):
        open_sink(address, ABOUT)


@pytest.mark.parametrize(
    "address", ["", "?domain=1", "/camera?type=depth", "/camera?type=", "?type=image"]
)
def test_bad_addresses_of_sources(address: str) -> None:
    with pytest.raises(InputError):
        open_source(address)


def test_the_domain_is_that_of_ros(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    sink = open_sink("", ABOUT)
    late = reader(domain, "/humans/faces/label_info", LabelInfo, Policy.Durability.TransientLocal)
    until(late.get_matched_publications)
    sink.close()
    monkeypatch.setenv("ROS_DOMAIN_ID", "robot")
    with pytest.raises(InputError, match="ROS_DOMAIN_ID"):
        open_sink("", ABOUT)


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("<CycloneDDS><Nonsense/></CycloneDDS>", "Nonsense"),
        ("<CycloneDDS", "CYCLONEDDS_URI"),
        ("file:///nowhere/dds.xml", "/nowhere/dds.xml"),
        (LOOPBACK.replace('address="127.0.0.1"', 'name="none0"'), "none0"),
        (LOOPBACK.replace("<AllowMulticast>false", "<AllowMulticast>perhaps"), "perhaps"),
    ],
)
def test_a_configuration_that_does_not_work_is_one_sentence(
    domain: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    uri: str,
    word: str,
) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", uri)
    for opening in (
        lambda: open_sink(f"?domain={domain}", ABOUT),
        lambda: open_source(f"/camera?domain={domain}"),
    ):
        with pytest.raises(InputError) as caught:
            opening()
        said = str(caught.value)
        assert word in said and "CYCLONEDDS_URI" in said
        reason = said.partition("check CYCLONEDDS_URI")[0]
        assert "\n" not in reason and "python" not in reason
    assert capfd.readouterr().err == ""


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional, "import_module", missing)
    for opening in (lambda: open_sink("", ABOUT), lambda: open_source("/camera")):
        with pytest.raises(BackendMissing, match=r"convcut-trt\[dds\]"):
            opening()
