"""Expressions for robots: ROS 2 messages without ROS. Importing this imports no transport library."""
