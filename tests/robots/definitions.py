"""The .msg files of the messages, field lines only, copied from the public definitions.

Sources: ros2/common_interfaces and ros2/rcl_interfaces (builtin_interfaces), ros4hri/hri_msgs (humble-devel),
ros-perception/vision_msgs (ros2, 4.1.1), foxglove/foxglove-sdk (3.2); Apache-2.0, hri_msgs BSD, foxglove_msgs MIT.
Without comments, constants and defaults.
"""

DEFINITIONS = {
    "builtin_interfaces/msg/Time": ("int32 sec\nuint32 nanosec\n"),
    "std_msgs/msg/Header": ("builtin_interfaces/Time stamp\nstring frame_id\n"),
    "sensor_msgs/msg/Image": (
        "std_msgs/Header header\n"
        "uint32 height\n"
        "uint32 width\n"
        "string encoding\n"
        "uint8 is_bigendian\n"
        "uint32 step\n"
        "uint8[] data\n"
    ),
    "sensor_msgs/msg/CompressedImage": ("std_msgs/Header header\nstring format\nuint8[] data\n"),
    "geometry_msgs/msg/Point": ("float64 x\nfloat64 y\nfloat64 z\n"),
    "geometry_msgs/msg/Quaternion": ("float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n"),
    "geometry_msgs/msg/Pose": ("Point position\nQuaternion orientation\n"),
    "geometry_msgs/msg/PoseWithCovariance": ("Pose pose\nfloat64[36] covariance\n"),
    "diagnostic_msgs/msg/KeyValue": ("string key\nstring value\n"),
    "diagnostic_msgs/msg/DiagnosticStatus": (
        "byte level\nstring name\nstring message\nstring hardware_id\nKeyValue[] values\n"
    ),
    "diagnostic_msgs/msg/DiagnosticArray": ("std_msgs/Header header\nDiagnosticStatus[] status\n"),
    "hri_msgs/msg/Expression": (
        "std_msgs/Header header\n"
        "string expression\n"
        "float32 valence\n"
        "float32 arousal\n"
        "float32 confidence\n"
    ),
    "hri_msgs/msg/IdsList": ("std_msgs/Header header\nstring[] ids\n"),
    "hri_msgs/msg/NormalizedRegionOfInterest2D": (
        "std_msgs/Header header\n"
        "float32 xmin\n"
        "float32 ymin\n"
        "float32 xmax\n"
        "float32 ymax\n"
        "float32 c\n"
    ),
    "vision_msgs/msg/ObjectHypothesis": ("string class_id\nfloat64 score\n"),
    "vision_msgs/msg/Classification": ("std_msgs/Header header\nObjectHypothesis[] results\n"),
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/Point2D": ("float64 x\nfloat64 y\n"),
    "vision_msgs/msg/Pose2D": ("vision_msgs/Point2D position\nfloat64 theta\n"),
    "vision_msgs/msg/BoundingBox2D": (
        "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\n"
        "ObjectHypothesisWithPose[] results\n"
        "BoundingBox2D bbox\n"
        "string id\n"
    ),
    "vision_msgs/msg/Detection2DArray": ("std_msgs/Header header\nDetection2D[] detections\n"),
    "vision_msgs/msg/VisionClass": ("uint16 class_id\nstring class_name\n"),
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
    "foxglove_msgs/msg/Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n",
    "foxglove_msgs/msg/Point2": "float64 x\nfloat64 y\n",
    "foxglove_msgs/msg/CircleAnnotation": (
        "builtin_interfaces/Time timestamp\n"
        "foxglove_msgs/Point2 position\n"
        "float64 diameter\n"
        "float64 thickness\n"
        "foxglove_msgs/Color fill_color\n"
        "foxglove_msgs/Color outline_color\n"
    ),
    "foxglove_msgs/msg/PointsAnnotation": (
        "builtin_interfaces/Time timestamp\n"
        "uint8 type\n"
        "foxglove_msgs/Point2[] points\n"
        "foxglove_msgs/Color outline_color\n"
        "foxglove_msgs/Color[] outline_colors\n"
        "foxglove_msgs/Color fill_color\n"
        "float64 thickness\n"
    ),
    "foxglove_msgs/msg/TextAnnotation": (
        "builtin_interfaces/Time timestamp\n"
        "foxglove_msgs/Point2 position\n"
        "string text\n"
        "float64 font_size\n"
        "foxglove_msgs/Color text_color\n"
        "foxglove_msgs/Color background_color\n"
    ),
    "foxglove_msgs/msg/ImageAnnotations": (
        "foxglove_msgs/CircleAnnotation[] circles\n"
        "foxglove_msgs/PointsAnnotation[] points\n"
        "foxglove_msgs/TextAnnotation[] texts\n"
    ),
}
