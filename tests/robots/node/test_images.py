"""The node on a topic of images, ``ros2:`` addresses of the command line, and the program."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

from convcut_trt.errors import BackendMissing, ConvcutError, InputError
from convcut_trt.robots import ros_node
from convcut_trt.robots.images import frame_of
from convcut_trt.robots.messages import (
    CompressedImage,
    Detection2DArray,
    DiagnosticStatus,
    Expression,
    IdsList,
    Image,
    LabelInfo,
)
from convcut_trt.robots.rclpy_node import main, open_sink, open_source
from convcut_trt.sources import Frame
from convcut_trt.stream import Stream
from tests.results import ABOUT
from tests.robots.cases import raw_image
from tests.robots.fake_ros_graph import Graph
from tests.robots.node.robot import (
    SPEC,
    START,
    SUCCESS,
    FakeEngine,
    Others,
    Robot,
    header,
    image,
    level,
)


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
    others.send("/camera/image_raw", raw_image(picture, "rgb8", moment))
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
