"""Stand for a process that a server of ``tests/support/warm.py`` forks: run by ``Warm.command``.

``python -I -S warm_client.py SOCKET CODE ARGUMENT...``: streams, folder and variables are those of this process, it
passes signals on, and both end in the same way. It imports only small modules of the standard library.
"""

import contextlib
import json
import os
import signal
import socket
import sys


def _pass_on(pid: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: os.kill(pid, number))


def _end_as(status: int) -> None:
    if status >= 0:
        sys.exit(status)
    with contextlib.suppress(OSError):  # SIGKILL
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


def main() -> None:
    address, code, *arguments = sys.argv[1:]
    order = {"code": code, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(order).encode()], [0, 1, 2])
        _pass_on(int(server.recv(64)))
        status = int(server.recv(64))
    _end_as(status)


if __name__ == "__main__":
    main()
