"""Put on the path as ``sitecustomize``, it writes down what Python's own code does to files and the network.

It goes along into every process that is started from there. What native code does is not seen by it.
"""

from __future__ import annotations

import json
import os
import sys

_LOG = os.open(os.environ["WATCHED_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "shutil.rmtree": (0,),
}
_NETWORK = {
    "socket.connect": 1,
    "socket.bind": 1,
    "socket.sendto": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    seen: list[object] = []
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        seen = [arguments[0]]
    elif event in _CHANGES:
        seen = [arguments[place] for place in _CHANGES[event]]
    elif event in _NETWORK:
        # A path is a socket of this machine, which leads to no network.
        address = arguments[_NETWORK[event]]
        if not isinstance(address, str | bytes) or event.startswith("socket.get"):
            _tell("network", repr(address))
    elif event == "subprocess.Popen":
        _tell("process", os.fsdecode(str(arguments[0])))
    elif event in ("os.system", "os.exec", "os.posix_spawn", "pty.spawn"):
        _tell("process", repr(arguments))
    for path in seen:
        # Numbers are files that are open already; within a folder that is open, its own event told of it.
        if isinstance(path, str | bytes | os.PathLike) and not _inside(event, arguments):
            _tell("write", os.path.abspath(os.fsdecode(path)))


def _inside(event: str, arguments: tuple[object, ...]) -> bool:
    return event in ("os.remove", "os.rmdir") and arguments[-1] not in (-1, None)


def _tell(kind: str, what: str) -> None:
    os.write(_LOG, json.dumps([kind, what]).encode() + b"\n")


sys.addaudithook(_watch)
