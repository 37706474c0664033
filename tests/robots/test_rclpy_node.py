"""The ROS 2 node and ``ros2:`` addresses, against a stub of rclpy that takes only what the real one takes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from convcut_trt.errors import BackendMissing, ConvcutError, EngineMismatch, InputError
from convcut_trt.home import find_model
from convcut_trt.robots import ros_node, ros_worker
from convcut_trt.robots.images import frame_of, from_frame
from convcut_trt.robots.messages import (
    CompressedImage,
    Detection2DArray,
    DiagnosticArray,
    DiagnosticStatus,
    Expression,
    Header,
    IdsList,
    Image,
    LabelInfo,
    Time,
)
from convcut_trt.robots.rclpy_node import main, open_sink, open_source
from convcut_trt.robots.ros_wire import ros_class
from convcut_trt.sources import Frame
from convcut_trt.stream import Stream
from tests.results import ABOUT
from tests.robots.fake_rclpy import install
from tests.robots.fake_ros_graph import Graph
from tests.robots.fake_ros_node import Parameter, TransitionCallbackReturn

SPEC = find_model("conv-cut-mini").spec
SECOND = 10**9
START = 1_700_000_000 * SECOND
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR


def level(label: str) -> int:
    """The grey of a picture that ``FakeEngine`` takes for this expression."""
    return SPEC.classes.index(label) * 32 + 8


class FakeEngine:
    """Says what is painted: the class by the brightness, surely; notes its batches."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.manifest = SimpleNamespace(path=SimpleNamespace(name="fake.json"))
        self.batches: list[int] = []
        self.work: Callable[[], object] = lambda: None
        self.surely = 0.93
        self.closed = 0

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        assert batch.shape[1:] == (SPEC.size, SPEC.size, 3) and batch.dtype == np.uint8
        assert not self.closed
        self.batches.append(len(batch))
        self.work()
        shares = np.full((len(batch), 8), (1 - self.surely) / 7, np.float32)
        shares[np.arange(len(batch)), (batch.mean(axis=(1, 2, 3)) // 32).astype(int)] = self.surely
        return {"probabilities": shares}

    def close(self) -> None:
        self.closed += 1


def header(moment: int = 0, frame_id: str = "camera_color_optical_frame") -> Header:
    return Header(Time.from_ns(START + moment), frame_id)


def image(label: str, moment: int = 0, height: int = 128, width: int = 128) -> Image:
    return from_frame(np.full((height, width, 3), level(label), np.uint8), "bgr8", header(moment))


class Others:
    """The rest of the robot: a node that publishes."""

    def __init__(self, name: str = "hri_face_detect") -> None:
        rclpy = sys.modules["rclpy"]
        context: Any = sys.modules["rclpy.context"].Context()
        rclpy.init(args=[], context=context)
        self.node: Any = rclpy.create_node(name, context=context)
        self._publishers: dict[str, Any] = {}

    def send(self, topic: str, message: Any, data: bytes | None = None) -> None:
        if topic not in self._publishers:
            made = self.node.create_publisher(ros_class(type(message)), topic, 1)
            self._publishers[topic] = made
        self._publishers[topic].publish(message.encode() if data is None else data)

    def faces(self, *ids: str) -> None:
        self.send("/humans/faces/tracked", IdsList(header(), ids))

    def crop(self, face: str, message: Image, data: bytes | None = None) -> None:
        self.send(f"/humans/faces/{face}/aligned", message, data)


class Robot:
    """Our node, spun by the test when it waits for something."""

    def __init__(self, graph: Graph, *arguments: str) -> None:
        rclpy = sys.modules["rclpy"]
        self.graph = graph
        given = [word for argument in arguments for word in ("-p", argument)]
        rclpy.init(args=["node", "--ros-args", "-p", "diagnostics_period:=0.05", *given])
        self.node: Any = ros_node.make_node()
        self._executor: Any = sys.modules["rclpy.executors"].SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin(self, until: Callable[[], object], seconds: float = 3.0) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"nothing came; {self.graph.logs} {self.status()}"
            self._executor.spin_once(timeout_sec=0.01)

    def settle(self, seconds: float = 0.15) -> None:
        end = time.monotonic() + seconds
        self.spin(lambda: time.monotonic() > end)

    def start(self) -> None:
        assert self.node.trigger_configure() is SUCCESS, self.graph.logs
        assert self.node.trigger_activate() is SUCCESS, self.graph.logs

    def set(self, name: str, value: object) -> str:
        """Why the parameter cannot have this value; "" where it can."""
        (result,) = self.node.set_parameters([Parameter(name, value=value)])
        return "" if result.successful else str(result.reason)

    def words(self, face: str) -> list[Expression]:
        sent = self.graph.on(f"/humans/faces/{face}/expression")
        return [Expression.decode(data) for data in sent]

    def status(self) -> DiagnosticStatus | None:
        sent = self.graph.on("/diagnostics")
        return DiagnosticArray.decode(sent[-1]).status[0] if sent else None

    def reported(self) -> DiagnosticStatus:
        """The next diagnostics."""
        before = len(self.graph.on("/diagnostics"))
        self.spin(lambda: len(self.graph.on("/diagnostics")) > before)
        status = self.status()
        assert status is not None
        return status

    def figures(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.reported().values}

    def logged(self, severity: str) -> str:
        return "\n".join(text for kind, text in self.graph.logs if kind == severity)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    network = install(monkeypatch)
    yield network
    assert network.violations == []
    names = ("convcut-answers", "convcut-source")
    assert not [thread for thread in threading.enumerate() if thread.name in names]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()

    def load(name: str, precision: str | None, backend: str) -> FakeEngine:
        if name != "conv-cut-mini":
            raise EngineMismatch(f"no engine of {name} fits: run convcut-trt build")
        made.closed = 0
        return made

    monkeypatch.setattr(ros_node, "load", load)
    return made


@pytest.fixture
def robots(graph: Graph, engine: FakeEngine) -> Iterator[Callable[..., Robot]]:
    made: list[Robot] = []

    def make(*arguments: str) -> Robot:
        made.append(Robot(graph, *arguments))
        return made[-1]

    yield make
    for robot in made:
        robot.node.life.leave()
        robot.node.destroy_node()


@pytest.fixture
def robot(robots: Callable[..., Robot]) -> Robot:
    return robots("time_constant:=0.0", "dwell:=0.0", "hysteresis:=0.0")


@pytest.fixture
def others(graph: Graph) -> Others:
    return Others()


# -- the faces of a ROS4HRI detector


def follow(robot: Robot, others: Others, *ids: str) -> None:
    """Has the node follow these faces, and no other."""
    others.faces(*ids)
    wanted = {f"/humans/faces/{face}/expression" for face in ids}
    robot.spin(
        lambda: wanted == {topic for topic in robot.graph.topics() if topic.endswith("expression")}
    )


def test_the_life_of_the_node(robot: Robot, others: Others, engine: FakeEngine) -> None:
    before = robot.graph.topics()
    assert before == {"/diagnostics"}
    robot.start()
    follow(robot, others, "abcde", "fghij")
    stamp = header(123_456_789, "camera_left")
    picture = np.full((128, 128, 3), level("fear"), np.uint8)
    others.crop("abcde", from_frame(picture, "bgr8", stamp))
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
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert go_on.wait(5)

    engine.work = work
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
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
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert go_on.wait(5)

    engine.work = work
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
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


# -- failures


def test_an_engine_that_fails_takes_the_node_through_error_processing(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    def fail() -> None:
        raise RuntimeError("the GPU fell off the bus")

    robot.start()
    follow(robot, others, "a")
    engine.work = fail
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.node.label == "unconfigured")
    assert "fell off" in robot.logged("error") and engine.closed == 1
    status = robot.reported()
    assert status.level == DiagnosticStatus.ERROR and "fell off" in status.message
    assert "/humans/faces/a/expression" not in robot.graph.topics()
    engine.work = lambda: None
    robot.start()
    assert robot.reported().level != DiagnosticStatus.ERROR
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))


def test_nan_of_the_engine_is_never_published(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    engine.surely = float("nan")
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.node.label == "unconfigured")
    assert robot.words("a") == [] and "NaN" in robot.reported().message


@pytest.mark.parametrize("transition", ["deactivate", "shutdown"])
def test_an_inference_that_does_not_return_holds_nothing_up(
    robot: Robot,
    others: Others,
    engine: FakeEngine,
    transition: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ros_worker, "PATIENCE_S", 0.1)
    entered, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        go_on.wait(10)

    engine.work = hang
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
    begun = time.monotonic()
    getattr(robot.node, f"trigger_{transition}")()
    assert time.monotonic() - begun < 1
    assert robot.node.label == {"deactivate": "unconfigured", "shutdown": "finalized"}[transition]
    assert "does not return" in robot.logged("error") and not engine.closed
    go_on.set()
    robot.spin(lambda: not [t for t in threading.enumerate() if t.name == "convcut-answers"])
    assert robot.words("a") == []


def test_a_short_inference_is_waited_for(robot: Robot, others: Others, engine: FakeEngine) -> None:
    entered = threading.Event()

    def work() -> None:
        entered.set()
        time.sleep(0.1)

    engine.work = work
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
    assert robot.node.trigger_shutdown() is SUCCESS
    robot.settle()
    assert robot.words("a") == [] and engine.closed == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("engine:=conv-cut-huge",), "convcut-trt build"),
        (("compressed:=true",), "image_topic"),
        (("image_topic:=/camera", "detector:=nose"), "'nose'"),
        (("image_topic:=/camera", "detector:=missing.onnx"), "missing.onnx"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence_and_can_be_mended(
    robots: Callable[..., Robot], arguments: tuple[str, ...], said: str
) -> None:
    robot = robots(*arguments)
    assert robot.node.trigger_configure() is FAILURE
    assert robot.node.label == "unconfigured"
    assert said in robot.logged("error") and "Traceback" not in robot.logged("error")
    status = robot.reported()
    assert status.level == DiagnosticStatus.ERROR and said in status.message
    fine = {"engine": "conv-cut-mini", "compressed": False, "detector": "whole"}
    assert [robot.set(name, value) for name, value in fine.items()] == [""] * 3
    assert robot.node.trigger_configure() is SUCCESS
    assert robot.reported().level == DiagnosticStatus.WARN


def test_a_bad_topic_leaves_the_node_inactive(robots: Callable[..., Robot]) -> None:
    robot = robots("image_topic:=1/bad topic", "detector:=whole")
    assert robot.node.trigger_configure() is SUCCESS
    assert robot.node.trigger_activate() is FAILURE
    assert robot.node.label == "inactive" and "1/bad topic" in robot.logged("error")
    assert "1/bad topic" in robot.reported().message
    assert robot.node.trigger_cleanup() is SUCCESS
    assert robot.set("image_topic", "camera") == ""
    robot.start()
    assert robot.node.trigger_deactivate() is SUCCESS
    assert robot.reported().level == DiagnosticStatus.WARN


def test_a_missing_package_is_named_when_the_node_is_configured(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hri_msgs.msg", None)
    assert robot.node.trigger_configure() is FAILURE
    assert "apt install ros-humble-hri-msgs" in robot.logged("error")


def test_definitions_that_differ_are_refused(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ros_class(Detection2DArray).__name__ == "Detection2DArray"
    inner = sys.modules["vision_msgs.msg"].BoundingBox2D
    older = {"center": "geometry_msgs/Pose2D", "size_x": "double", "size_y": "double"}
    monkeypatch.setattr(inner, "_fields_and_field_types", older)
    with pytest.raises(InputError, match="geometry_msgs/Pose2D"):
        ros_class(Detection2DArray)
    monkeypatch.setitem(sys.modules, "sensor_msgs.msg", ModuleType("sensor_msgs.msg"))
    with pytest.raises(BackendMissing, match="ros-humble-sensor-msgs"):
        ros_class(Image)


def test_two_nodes_of_one_name_warn_and_go_on(robot: Robot, others: Others) -> None:
    Others("convcut_trt")
    robot.start()
    assert "another node is called convcut_trt" in robot.logged("warning")
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))


# -- diagnostics and parameters


def test_diagnostics_tell_the_state_and_what_is_missing(robot: Robot, others: Others) -> None:
    assert "unconfigured" in robot.reported().message
    assert robot.node.trigger_configure() is SUCCESS
    status = robot.reported()
    assert status.level == DiagnosticStatus.WARN and "inactive" in status.message
    assert robot.node.trigger_activate() is SUCCESS
    status = robot.reported()
    assert status.level == DiagnosticStatus.WARN and "face detector" in status.message
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))
    status = robot.reported()
    assert (status.level, status.name) == (DiagnosticStatus.OK, "convcut_trt: conv-cut-mini")
    figures = robot.figures()
    assert figures["state"] == "active" and float(figures["infer p99 ms"]) >= 0
    others.send("/humans/faces/a/expression", Expression())
    assert "hri_emotion_recognizer" in robot.reported().message


def test_faces_without_images_are_stale(
    robot: Robot, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convcut_trt.robots.ros_crops.STALL_S", 0.1)
    robot.start()
    others.faces()
    robot.settle(0.2)
    assert robot.reported().level == DiagnosticStatus.OK
    follow(robot, others, "a")
    robot.settle(0.2)
    assert robot.reported().level == DiagnosticStatus.STALE
    assert robot.figures()["stalls"] == "1"
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))
    assert int(robot.figures()["stalls"]) >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "reject:=2.0"], "reject"),
        (["-p", "reject:=1"], "reject"),
        (["-p", "hysteresis:=.nan"], "hysteresis"),
        (["-p", "dwell:=-1.0"], "dwell"),
        (["-p", "max_rate:=fast"], "max_rate"),
        (["-p", "engine:=7"], "engine"),
        (["-p", "diagnostics_period:=0.0"], "diagnostics_period"),
        (["-p", "engine"], "engine"),
    ],
)
def test_a_bad_parameter_at_the_start_is_a_sentence_and_exit_code_2(
    graph: Graph, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["node", "--ros-args", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


def test_parameters_change_where_that_is_safe(robots: Callable[..., Robot]) -> None:
    robot = robots("image_topic:=/camera", "detector:=whole")
    assert robot.set("precision", "fp16") == ""
    assert robot.node.trigger_configure() is SUCCESS
    assert "clean it up first" in robot.set("engine", "another")
    assert robot.set("dwell", 1.0) == ""
    assert robot.node.trigger_activate() is SUCCESS
    assert "deactivate it first" in robot.set("dwell", 2.0)
    assert "out of range" in robot.set("max_rate", -1.0)
    assert "read-only" in robot.set("diagnostics_period", 2.0)
    assert "Wrong parameter type" in robot.set("max_rate", 5)
    assert robot.set("max_rate", 5.0) == ""
    assert robot.node.trigger_deactivate() is SUCCESS
    assert robot.set("dwell", 2.0) == ""


def test_max_rate_drops_and_counts_what_comes_between(robot: Robot, others: Others) -> None:
    robot.start()
    follow(robot, others, "a")
    assert robot.set("max_rate", 5.0) == ""
    for moment in range(20):
        others.crop("a", image("neutral", moment))
        robot.settle(0.025)
    robot.settle(0.3)
    assert 3 <= len(robot.words("a")) <= 5
    assert robot.words("a")[-1].header.stamp.ns == START + 19
    figures = robot.figures()
    assert int(figures["frames"]) == 20 == int(figures["processed"]) + int(figures["dropped"])


def test_parameters_describe_themselves(robot: Robot) -> None:
    described: Any = robot.node.describe_parameter("hysteresis")
    (limits,) = described.floating_point_range
    assert (limits.from_value, limits.to_value) == (0, 1) and len(described.description) > 20


# -- a topic of images


def boxes(picture: np.ndarray) -> np.ndarray:
    """A detector: one face, wherever the picture has room for it."""
    return np.array([[10.0, 20.0, 60.0, 60.0]])


@pytest.fixture
def camera(robots: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch) -> Robot:
    monkeypatch.setattr(ros_node, "open_detector", lambda name: boxes)
    robot = robots("image_topic:=/camera/image_raw", "time_constant:=0.0", "dwell:=0.0")
    robot.start()
    return robot


def test_a_topic_of_images_becomes_faces(camera: Robot, others: Others) -> None:
    moment = header(5, "left")
    picture = np.full((120, 160, 3), level("sadness"), np.uint8)
    others.send("/camera/image_raw", from_frame(picture, "rgb8", moment))
    camera.spin(lambda: camera.words("f00001"))
    (said,) = camera.words("f00001")
    assert (said.expression, said.header) == ("sad", moment)
    root = "/humans/faces"
    (tracked,) = (IdsList.decode(data) for data in camera.graph.on(f"{root}/tracked"))
    assert tracked == IdsList(moment, ("f00001",))
    (found,) = (Detection2DArray.decode(data) for data in camera.graph.on(f"{root}/detections"))
    assert found.detections[0].bbox.size_x == 60
    latched = [entry for entry in camera.node.publishers if entry.topic_name.endswith("label_info")]
    assert latched[0].qos_profile.durability.name == "TRANSIENT_LOCAL"
    assert LabelInfo.decode(latched[0].last).threshold == pytest.approx(SPEC.reject)

    for height, width in [(90, 100), (480, 640)]:
        before = len(camera.words("f00001"))
        others.send("/camera/image_raw", image("sadness", 10**7, height, width))
        camera.spin(lambda before=before: len(camera.words("f00001")) > before)  # type: ignore[misc]
    others.send("/camera/image_raw", image("anger"), b"\0\1\0\0no image")
    camera.spin(lambda: camera.figures()["bad"] == "1")
    assert camera.reported().level == DiagnosticStatus.WARN

    assert camera.node.trigger_deactivate() is SUCCESS
    assert camera.graph.topics() == {"/diagnostics", "/camera/image_raw"}
    assert camera.node.trigger_activate() is SUCCESS
    others.send("/camera/image_raw", image("anger", 10**8))
    camera.spin(lambda: camera.words("f00001")[-1].expression == "angry")


def test_a_detector_that_fails_ends_in_diagnostics(
    robots: Callable[..., Robot], others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(picture: np.ndarray) -> np.ndarray:
        raise ValueError("no GPU")

    monkeypatch.setattr(ros_node, "open_detector", lambda name: broken)
    robot = robots("image_topic:=/camera/image_raw")
    robot.start()
    assert "nothing publishes /camera/image_raw" in robot.reported().message
    others.send("/camera/image_raw", image("neutral"))
    robot.spin(lambda: robot.node.label == "unconfigured")
    status = robot.reported()
    assert status.level == DiagnosticStatus.ERROR and "no GPU" in status.message


def jpeg(label: str, moment: int) -> CompressedImage:
    file = BytesIO()
    Pillow.fromarray(np.full((100, 120, 3), level(label), np.uint8)).save(file, "jpeg")
    return CompressedImage(header(moment), "bgr8; jpeg compressed bgr8", file.getvalue())


def test_compressed_images(robots: Callable[..., Robot], others: Others) -> None:
    robot = robots("image_topic:=/camera/c", "compressed:=true", "detector:=whole")
    robot.start()
    others.send("/camera/c", jpeg("happiness", 1))
    robot.spin(lambda: robot.words("f00001"))
    assert robot.words("f00001")[0].expression == "happy"
    broken = CompressedImage(header(2), "jpeg", jpeg("anger", 2).data[:200])
    others.send("/camera/c", broken)
    robot.spin(lambda: robot.figures()["bad"] == "1")


# -- addresses of the command line


def test_a_sink_publishes_what_a_stream_answers(graph: Graph, engine: FakeEngine) -> None:
    sent = [
        Frame(np.full((120, 160, 3), level("anger"), np.uint8), START + n, "cam", n)
        for n in range(3)
    ]
    sink = open_sink("/robot/faces", ABOUT)
    another = open_sink("", ABOUT)
    with Stream(engine, sent, detector=boxes, newest=False) as stream:
        for result in stream:
            sink.send(result)
    sink.report(stream.health())
    words = [Expression.decode(data) for data in graph.on("/robot/faces/f00001/expression")]
    assert [said.header.stamp.ns for said in words] == [START, START + 1, START + 2]
    assert {said.expression for said in words} == {"angry"}
    assert len(graph.on("/diagnostics")) == 1 and len(graph.on("/humans/faces/label_info")) == 1
    sink.close()
    sink.close()
    another.close()
    assert graph.topics() == set() and graph.nodes == []


def test_a_source_gives_the_images_of_a_topic(
    graph: Graph, engine: FakeEngine, others: Others
) -> None:
    source = open_source("/camera/image_raw")
    results = []
    with Stream(engine, source, detector=boxes) as stream:
        others.send("/camera/image_raw", image("fear", 1))
        for result in stream:
            results.append(result)
            if len(results) < 3:
                others.send("/camera/image_raw", image("fear", len(results) + 1))
            else:
                stream.stop()
    assert [result.frame.timestamp - START for result in results] == [1, 2, 3]
    assert [result.frame.sequence for result in results] == [0, 1, 2]
    assert {result.faces[0].label for result in results} == {"fear"}
    assert graph.nodes == [others.node]


def test_a_source_says_by_its_name_what_it_carries(graph: Graph, others: Others) -> None:
    for address in ("/camera/image_raw/compressed", "/camera/jpeg?type=compressed"):
        source = open_source(address)
        others.send(address.partition("?")[0], jpeg("anger", 3))
        frame = next(iter(source))
        source.close()
        assert isinstance(frame, Frame) and frame.timestamp == START + 3
        assert frame.picture().shape == (100, 120, 3)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "no topic"),
        ("/camera?type=video", "type=video"),
        ("/camera?kind=image", "'kind'"),
        ("/1camera", "1camera"),
        ("/camera/", "topic"),
    ],
)
def test_a_bad_source_is_a_sentence(graph: Graph, address: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_source(address)
    assert graph.nodes == []


@pytest.mark.parametrize("address", ["/humans/faces?x=1", "/white space"])
def test_a_bad_sink_is_a_sentence(graph: Graph, address: str) -> None:
    with pytest.raises(InputError, match="topic|options"):
        open_sink(address, ABOUT)
    assert graph.nodes == []


@pytest.mark.parametrize("opening", [lambda: open_sink("", ABOUT), lambda: open_source("/camera")])
def test_without_ros_the_sentence_says_what_to_source(
    opening: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    with pytest.raises(BackendMissing, match="source /opt/ros/jazzy/setup.bash"):
        opening()


def test_a_publisher_of_a_dead_ros_is_our_error(graph: Graph) -> None:
    sink = open_sink("", ABOUT)
    graph.nodes[0].context.try_shutdown()
    with pytest.raises(ConvcutError, match="start again"):
        sink.report(Stream(FakeEngine(), []).health())


def test_damaged_bytes_become_a_frame_that_says_so_when_it_is_decoded() -> None:
    frame = frame_of(b"\0\1\0\0", Image.decode, 4, 0)
    assert (frame.sequence, frame.timestamp) == (4, 0)
    with pytest.raises(InputError, match="sensor_msgs"):
        frame.picture()


# -- the program


def test_the_program_runs_until_ros_ends(
    graph: Graph, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    arguments = ["node", "--ros-args", "-p", "diagnostics_period:=0.05", "-r", "__node:=faces"]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    end = time.monotonic() + 3
    while not graph.on("/diagnostics"):
        assert time.monotonic() < end
        time.sleep(0.01)
    (node,) = graph.nodes
    assert node.get_name() == "faces"
    node.context.try_shutdown()
    thread.join(3)
    assert codes == [0] and graph.nodes == [] and capsys.readouterr().err == ""


def test_the_program_without_ros_is_a_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["node"]) == 2
    assert "setup.bash" in capsys.readouterr().err
