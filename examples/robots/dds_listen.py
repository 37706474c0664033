"""Prints the expressions that `convcut-trt run ... --to dds:/humans/faces` publishes.

    pip install cyclonedds
    python dds_listen.py

Another program on the robot: it needs neither ROS nor convcut-trt, only the messages' fields. Ends with Ctrl-C.
"""

import argparse
from contextlib import suppress
from dataclasses import dataclass

from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float32, int32, sequence, uint32
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


@dataclass
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time
    frame_id: str


@dataclass
class IdsList(IdlStruct, typename="hri_msgs.msg.dds_.IdsList_"):
    header: Header
    ids: sequence[str]


@dataclass
class Expression(IdlStruct, typename="hri_msgs.msg.dds_.Expression_"):
    header: Header
    expression: str
    valence: float32
    arousal: float32
    confidence: float32


RELIABLE = Qos(
    Policy.Reliability.Reliable(max_blocking_time=0),
    Policy.History.KeepLast(10),
    Policy.DataRepresentation(use_cdrv0_representation=True),  # what ROS 2 speaks
)
ANY = SampleState.Any | ViewState.Any | InstanceState.Any


class Listener:
    """Follows `tracked`, and the expression of each face in it."""

    def __init__(self, root: str, domain: int) -> None:
        self.participant = DomainParticipant(domain)
        self.root = root
        self.wait = WaitSet(self.participant)
        self.tracked, _ = self.subscribe(f"{root}/tracked", IdsList)
        self.faces: dict[str, tuple[DataReader, ReadCondition]] = {}

    def subscribe(self, topic: str, kind: type[IdlStruct]) -> tuple[DataReader, ReadCondition]:
        reader = DataReader(
            self.participant, Topic(self.participant, f"rt{topic}", kind), qos=RELIABLE
        )
        condition = ReadCondition(reader, ANY)
        self.wait.attach(condition)
        return reader, condition

    def listen(self, count: int | None) -> None:
        """Prints expressions, `count` of them or for ever."""
        while count is None or count > 0:
            self.wait.wait(duration(seconds=1))
            for message in self.tracked.take(10):
                if isinstance(message, IdsList):
                    self.follow(set(message.ids))
            for name, (reader, _) in self.faces.items():
                for message in reader.take(10):
                    if isinstance(message, Expression):
                        stamp = message.header.stamp
                        print(
                            f"{stamp.sec}.{stamp.nanosec:09d} {name} {message.expression} "
                            f"{message.confidence:.2f}",
                            flush=True,
                        )
                        count = None if count is None else count - 1

    def follow(self, names: set[str]) -> None:
        for name in names - self.faces.keys():
            self.faces[name] = self.subscribe(f"{self.root}/{name}/expression", Expression)
        for name in self.faces.keys() - names:
            _, condition = self.faces.pop(name)
            self.wait.detach(condition)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="/humans/faces", help="what the topics lie below")
    parser.add_argument("--domain", type=int, default=0)
    parser.add_argument("--count", type=int, help="end after so many expressions")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        Listener(options.root, options.domain).listen(options.count)


if __name__ == "__main__":
    main()
