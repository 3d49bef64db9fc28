"""Runs the commands of pages in forks of one process that has imported what they need: a start costs no second then.

Server: `page_server.py SOCKET`, until its standard input ends. Client: `page_server.py SOCKET PROGRAM ARGUMENT...`, in
the folder and with the standard streams of the command; it ends with the command's exit code. The programs are the
package's own, from their first line on; only their imports are found done.
"""

import os
import socket
import sys
from pathlib import Path

END = "\0"


def client(place: str, *line: str) -> int:
    """Have a command run, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        variables = [f"{name}={value}" for name, value in os.environ.items()]
        text = END.join([str(Path.cwd()), str(len(line)), *line, *variables]).encode()
        socket.send_fds(connection, [b"%10d" % len(text)], [0, 1, 2])
        connection.sendall(text)
        answer = connection.recv(4)
    return int(answer) if answer else 139


def serve(place: str) -> None:
    """Fork for every client until standard input ends."""
    import select

    _import_everything()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen(8)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _run(connection)
            connection.close()
            while _reaped():
                pass


def _import_everything() -> None:
    """Import all but MPI, which starts as it is imported."""
    import matplotlib.pyplot  # noqa: F401 - slow
    import torch  # noqa: F401 - slow

    import landscape_mpi.plot.run
    import landscape_mpi.surface.export
    import landscape_mpi.surface.info
    import landscape_mpi.surface.merge
    import landscape_mpi.sweeping
    import landscape_mpi.train  # noqa: F401 - slow

    if "mpi4py.MPI" in sys.modules:
        raise RuntimeError("MPI has been started, and a fork cannot use it")


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _run(connection: socket.socket) -> None:
    """Become the command that a client asks for, and end with it."""
    head, streams, _, _ = socket.recv_fds(connection, 10, 3)
    length, text = int(head), b""
    while len(text) < length:
        text += connection.recv(length - len(text))
    folder, number, *rest = text.decode().split(END)
    program, *arguments = rest[: int(number)]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(line.split("=", 1) for line in rest[int(number) :])
    for own, stream in enumerate(streams):
        os.dup2(stream, own)
    code = _main(program, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(b"%d" % code)
    sys.exit(code)


def _main(program: str, arguments: list[str]) -> int:
    from landscape_mpi.__main__ import main
    from landscape_mpi.plot.__main__ import main as plot

    sys.argv = [program, *arguments]
    sys.path[0] = str(Path.cwd())
    try:
        return int(plot(arguments) if program == "landscape-plot" else main())
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


if __name__ == "__main__":
    sys.exit(client(*sys.argv[1:]) if len(sys.argv) > 2 else serve(sys.argv[1]))
