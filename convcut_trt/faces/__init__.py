"""Finding faces in camera frames: what a detector is (``detect``), YuNet and Haar through the user's OpenCV."""
