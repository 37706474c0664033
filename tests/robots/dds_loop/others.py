"""The other programs on loopback: the messages as they define them, their readers and their writers.

Every test has a domain of its own, and this process a tag that keeps all others out. What the listener of the
examples defines is taken from there.
"""

# cyclonedds reads annotations as they are: no `from __future__ import annotations` here.
import itertools
import os
import runpy
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float32, sequence, uint8, uint16, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

PATIENCE_S = 10.0
EXAMPLES = Path(__file__).parents[3] / "examples" / "robots"
LOOPBACK = f"""<CycloneDDS><Domain>
<General><Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>
<AllowMulticast>false</AllowMulticast></General>
<Discovery><Tag>{uuid.uuid4()}</Tag><Peers><Peer Address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""
_DOMAINS = itertools.count(os.getpid())

_LISTENER = runpy.run_path(str(EXAMPLES / "dds_listen.py"))
Time = _LISTENER["Time"]
Header = _LISTENER["Header"]
Expression = _LISTENER["Expression"]
IdsList = _LISTENER["IdsList"]

AHeader = Annotated[Any, Header]
Octets = Annotated[Sequence[uint8], sequence(uint8)]


@dataclass
class VisionClass(IdlStruct, typename="vision_msgs.msg.dds_.VisionClass_"):
    class_id: uint16
    class_name: str


@dataclass
class LabelInfo(IdlStruct, typename="vision_msgs.msg.dds_.LabelInfo_"):
    header: AHeader
    class_map: Annotated[Sequence[VisionClass], sequence(VisionClass)]
    threshold: float32


@dataclass
class Image(IdlStruct, typename="sensor_msgs.msg.dds_.Image_"):
    header: AHeader
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: Octets


@dataclass
class CompressedImage(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImage_"):
    header: AHeader
    format: str
    data: Octets


PLAIN = Policy.DataRepresentation(use_cdrv0_representation=True)
RELIABLE = Policy.Reliability.Reliable(max_blocking_time=duration(seconds=1))


def unused_domain() -> int:
    """A number that no other test has."""
    return next(_DOMAINS) % 230


def until(what: Callable[[], Any]) -> Any:
    """Waits for something true, and returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def reader(domain: int, topic: str, kind: type[Any], *policies: Any) -> DataReader[Any]:
    """Of another participant: reliable, and keeping everything."""
    there = DomainParticipant(domain)
    qos = Qos(RELIABLE, Policy.History.KeepAll, PLAIN, *policies)
    return DataReader(there, Topic(there, f"rt{topic}", kind), qos=qos)


def writer(domain: int, topic: str, kind: type[Any]) -> DataWriter[Any]:
    """Of another participant, as a camera driver has it."""
    there = DomainParticipant(domain)
    qos = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(5), PLAIN)
    return DataWriter(there, Topic(there, f"rt{topic}", kind), qos=qos)


def taken(source: DataReader[Any], kind: type[Any]) -> list[Any]:
    """Its messages, without the words that somebody went away."""
    return [sample for sample in source.take(100) if isinstance(sample, kind)]
