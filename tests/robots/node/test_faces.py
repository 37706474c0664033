"""The node on the faces of a ROS4HRI detector: its life, its answers, and crops that are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from convcut_trt.robots import ros_worker
from convcut_trt.robots.messages import DiagnosticStatus, IdsList, Image
from tests.robots.cases import raw_image
from tests.robots.node.robot import (
    SECOND,
    SPEC,
    START,
    SUCCESS,
    FakeEngine,
    Others,
    Robot,
    follow,
    header,
    held,
    image,
    level,
)


def test_the_life_of_the_node(robot: Robot, others: Others, engine: FakeEngine) -> None:
    before = robot.graph.topics()
    assert before == {"/diagnostics"}
    robot.start()
    follow(robot, others, "abcde", "fghij")
    stamp = header(123_456_789, "camera_left")
    picture = np.full((128, 128, 3), level("fear"), np.uint8)
    others.crop("abcde", raw_image(picture, "bgr8", stamp))
    others.crop("fghij", image("happiness"))
    robot.spin(lambda: robot.words("abcde") and robot.words("fghij"))
    (said,) = robot.words("abcde")
    assert said.header == stamp
    assert (said.expression, round(said.confidence, 3)) == ("scared", 0.93)
    assert (said.valence, said.arousal) == (0, 0)
    assert robot.words("fghij")[0].expression == "happy"

    follow(robot, others, "fghij")
    assert [entry.topic_name for entry in robot.node.subscriptions] == [
        "/humans/faces/tracked",
        "/humans/faces/fghij/aligned",
    ]
    others.crop("abcde", image("anger", 2))
    robot.settle()
    assert len(robot.words("abcde")) == 1

    assert robot.node.trigger_deactivate() is SUCCESS
    others.crop("fghij", image("anger", 2))
    robot.settle()
    assert len(robot.words("fghij")) == 1 and robot.node.subscriptions == []
    assert robot.graph.topics() - {"/humans/faces/tracked"} == {
        "/diagnostics",
        *(f"/humans/faces/{face}/aligned" for face in ("abcde", "fghij")),
    }
    assert robot.node.trigger_activate() is SUCCESS
    follow(robot, others, "fghij")
    others.crop("fghij", image("anger", 3))
    robot.spin(lambda: len(robot.words("fghij")) == 2)

    assert robot.node.trigger_deactivate() is SUCCESS and not engine.closed
    assert robot.node.trigger_cleanup() is SUCCESS and engine.closed
    robot.start()
    assert robot.node.trigger_shutdown() is SUCCESS
    assert robot.node.label == "finalized" and engine.closed == 1


@pytest.mark.parametrize("steps", [(), ("configure",), ("configure", "activate")])
def test_every_state_can_be_shut_down(robot: Robot, steps: tuple[str, ...]) -> None:
    for step in steps:
        assert getattr(robot.node, f"trigger_{step}")() is SUCCESS
    assert robot.node.trigger_shutdown() is SUCCESS
    assert robot.node.label == "finalized"
    assert robot.reported().message == "finalized: nothing is answered"


def test_all_faces_are_one_batch_and_only_the_newest_crop_of_each(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    robot.start()
    follow(robot, others, "a", "b", "c")
    go_on = held(robot, others, engine)
    for moment in range(1, 4):
        for face in "abc":
            others.crop(face, image("sadness", moment))
        robot.settle(0.05)
    go_on.set()
    robot.spin(lambda: len(robot.words("a")) == 2 and robot.words("c"))
    robot.settle()
    assert engine.batches == [1, 3]
    assert [words.header.stamp.ns - START for words in robot.words("b")] == [3]
    figures = robot.figures()
    assert (figures["frames"], figures["processed"], figures["dropped"]) == ("10", "4", "6")


def test_a_face_that_leaves_while_its_answer_waits_is_not_spoken_of(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    robot.start()
    follow(robot, others, "a")
    go_on = held(robot, others, engine)
    others.faces("b")
    go_on.set()
    time.sleep(0.1)  # answered, and not published yet: nobody spins
    robot.spin(lambda: "/humans/faces/b/expression" in robot.graph.topics())
    robot.settle()
    assert robot.words("a") == [] and robot.node.label == "active"


class Numbers:
    """Five answers, as fast as they are taken."""

    def __iter__(self) -> Iterator[int]:
        yield from range(1, 6)

    def stop(self) -> None:
        """Nothing waits."""


def test_no_answer_is_lost_where_publishing_is_slow() -> None:
    worker = ros_worker.Worker(Numbers(), 0.0, lambda: None)
    worker.start()
    taken: list[int] = []
    end = time.monotonic() + 3
    while len(taken) < 5 and time.monotonic() < end:
        time.sleep(0.01)
        answer = worker.take()
        taken += [] if answer is None else [answer]
    assert worker.stop() and taken == [1, 2, 3, 4, 5]


def test_what_has_no_word_or_is_unsure_is_unknown(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("contempt"))
    robot.spin(lambda: len(robot.words("a")) == 1)
    engine.surely = SPEC.reject - 0.05
    others.crop("a", image("anger", 1))
    robot.spin(lambda: len(robot.words("a")) == 2)
    assert [(said.expression, said.confidence) for said in robot.words("a")] == [("unknown", 0)] * 2
    assert robot.set("reject", SPEC.reject - 0.1) == ""
    others.crop("a", image("anger", 2))
    robot.spin(lambda: len(robot.words("a")) == 3)
    assert robot.words("a")[-1].expression == "angry"


def test_each_face_is_smoothed_by_itself_until_it_leaves(
    robots: Callable[..., Robot], others: Others
) -> None:
    robot = robots("time_constant:=1.0", "dwell:=0.0", "hysteresis:=0.0", "reject:=0.0")
    robot.start()
    follow(robot, others, "a", "b")

    def show(face: str, label: str, moment: float) -> str:
        count = len(robot.words(face))
        others.crop(face, image(label, round(moment * SECOND)))
        robot.spin(lambda: len(robot.words(face)) > count)
        return robot.words(face)[-1].expression

    assert show("a", "neutral", 0.0) == "neutral"
    assert show("b", "surprise", 0.0) == "surprised"
    assert show("a", "surprise", 0.1) == "neutral"  # 10 % of the way
    assert show("a", "surprise", -3600.0) == "neutral"  # the clock jumps back: a standstill
    assert show("a", "surprise", -3599.1) == "surprised"
    follow(robot, others, "b")
    follow(robot, others, "a", "b")
    assert show("a", "neutral", -3599.0) == "neutral"  # a new face
    assert robot.set("time_constant", 0.0) == ""
    assert show("b", "neutral", 0.01) == "neutral"


BAD_CROPS = {
    "empty": image("neutral").encode()[:-1],
    "cut short": image("neutral").encode()[:60],
    "no bytes": b"\0\1\0\0",
    "no pixels": Image(header(), 0, 0, "bgr8").encode(),
    "floats with NaN": Image(
        header(), 2, 2, "32FC1", 0, 8, np.full((2, 2), np.nan, np.float32).tobytes()
    ).encode(),
    "a lie about its size": Image(header(), 100, 100, "bgr8", 0, 300, b"\0" * 30).encode(),
    "another message": IdsList(header(), ("a",)).encode(),
}


@pytest.mark.parametrize("data", BAD_CROPS.values(), ids=BAD_CROPS.keys())
def test_a_bad_crop_is_counted_and_the_rest_is_answered(
    robot: Robot, others: Others, data: bytes
) -> None:
    robot.start()
    follow(robot, others, "a", "b")
    others.crop("a", image("neutral"), data)
    others.crop("b", image("neutral"))
    robot.spin(lambda: robot.words("b") and robot.figures()["bad"] == "1")
    status = robot.reported()
    assert status.level == DiagnosticStatus.WARN and "face a" in status.message
    others.crop("a", image("disgust", 1))
    robot.spin(lambda: robot.words("a"))
    assert robot.words("a")[0].expression == "disgusted"


def test_crops_change_size_and_shape(robot: Robot, others: Others) -> None:
    robot.start()
    follow(robot, others, "a")
    for count, (height, width) in enumerate([(128, 128), (64, 64), (200, 41), (1, 1)], 1):
        others.crop("a", image("anger", count, height, width))
        robot.spin(lambda count=count: len(robot.words("a")) == count)  # type: ignore[misc]
    assert {words.expression for words in robot.words("a")} == {"angry"}


def test_bad_lists_and_names_of_faces_are_left_out(robot: Robot, others: Others) -> None:
    robot.start()
    others.send("/humans/faces/tracked", IdsList(), b"\0\1\0\0\7")
    robot.spin(lambda: "list of faces" in robot.logged("warning"))
    others.faces("1a", "two words", "", "good", "good")
    robot.spin(lambda: "/humans/faces/good/expression" in robot.graph.topics())
    assert "'1a'" in robot.logged("warning")
    others.crop("good", image("neutral"))
    robot.spin(lambda: robot.words("good"))


def test_another_root_of_the_faces(robots: Callable[..., Robot], others: Others) -> None:
    robot = robots("faces_topic:=left/faces/")
    robot.start()
    others.send("/left/faces/tracked", IdsList(header(), ("a",)))
    robot.spin(lambda: "/left/faces/a/expression" in robot.graph.topics())
