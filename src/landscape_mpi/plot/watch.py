"""Serves the page of surfaces that are being swept, to browsers of this machine alone, until it is interrupted.

Only the page is served, at `/`, and only under the names of this machine: a web site whose own name leads here (DNS
rebinding) gets nothing. The page asks regularly whether the files have changed, and reloads itself if so.
"""

import asyncio
import hashlib
import html as text_of
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.paths import NOTHING, found
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import NO_PLOTLY, content, html
from landscape_mpi.surface.merge import overlaid
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.shards import recorded_shard

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""What browsers may call this machine; the port may be another one, as behind `ssh -L`."""
SECONDS = 3
"""How often a page asks whether there is a newer one."""
PATIENCE = 30
"""Seconds that a browser may take for one request."""
LARGEST = 1 << 14
"""Bytes of the head of a request."""
_WAITING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}">
<meta name="color-scheme" content="light dark"><title>Loss landscape</title></head>
<body><p>{words}</p><p>This page looks again every {seconds} seconds.</p></body></html>
"""


@dataclass
class Watched:
    """Surface files and the page of what they held when it was last asked for.

    Attributes:
        paths: of surfaces, or of shards of one surface, which are shown as that surface.
        tag: it identifies the page and changes with the files.
        page: the page, UTF-8.
    """

    paths: Sequence[Path]
    tag: str = field(default="", init=False)
    page: bytes = field(default=b"", init=False)

    def surfaces(self) -> list[Surface]:
        """Read the files; shards become one surface.

        Raises:
            UserError: one cannot be read, or shards are of different sweeps.
        """
        surfaces = [read_surface(path) for path in self.paths]
        shards = [recorded_shard(surface.attributes.get("shard")) for surface in surfaces]
        return [overlaid(surfaces)] if len(surfaces) > 1 and all(shards) else surfaces

    def current(self) -> str:
        """Return the tag of the files as they are now."""
        seen = []
        for path in self.paths:
            with suppress(OSError):
                stat = path.stat()
                seen.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return f'"{hashlib.sha256(repr(seen).encode()).hexdigest()[:16]}"'

    def refresh(self) -> None:
        """Make the page again if the files have changed; if they cannot be drawn yet, the page says why."""
        tag = self.current()  # before the files are read: what is written meanwhile makes another tag
        if tag == self.tag:
            return
        try:
            surfaces = self.surfaces()
            if not any(surface.done for surface in surfaces):
                raise UserError(surfaces[0].path, "no point is done yet")
            page = html({**content(surfaces, Options()), "watch": {"tag": tag, "seconds": SECONDS}})
        except UserError as mistake:
            page = _WAITING.format(words=text_of.escape(str(mistake)), seconds=SECONDS)
        self.tag, self.page = tag, page.encode()


def watch(paths: Sequence[Path], port: int, told: Callable[[str], None]) -> None:
    """Serve the page of surfaces, complete or not, until interrupted.

    A file that is not there yet is waited for.

    Args:
        paths: of surfaces, or of shards of one surface.
        port: of this machine; 0 for a free one.
        told: gets the address of the page.

    Raises:
        UserError: a file is no surface, its folder is not there, plotly is not installed or the port is taken.
    """
    if find_spec("plotly") is None:
        raise UserError("watch", *NO_PLOTLY)
    for path in paths:
        if found(path) == NOTHING and path.parent.is_dir():
            told(f"{path} is not there yet: the page shows it as soon as it is")
        else:
            read_surface(path)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(Watched(paths), port, told))


async def _serve(watched: Watched, port: int, told: Callable[[str], None]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(response(await reader.readuntil(b"\r\n\r\n"), watched))
                await writer.drain()
            writer.close()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            writer.transport.abort()  # the browser has gone, says nothing or says too much

    try:
        server = await asyncio.start_server(answer, HOST, port, limit=LARGEST)
    except OSError as error:
        remedy = "leave the flag out, and a free one is taken"
        raise UserError(Flag("port"), f"{port} cannot be used ({error.strerror})", remedy=remedy) from None
    told(f"http://{HOST}:{server.sockets[0].getsockname()[1]}/ shows {', '.join(map(str, watched.paths))}; Ctrl-C ends")
    async with server:
        await server.serve_forever()


def response(head: bytes, watched: Watched) -> bytes:
    """Return the answer to a request; `head` is the request up to the empty line."""
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    hosts = [value for name, value in fields if name == "host"]
    method, _, rest = first.partition(" ")
    if len(hosts) != 1 or not rest.endswith((" HTTP/1.1", " HTTP/1.0")):
        return _response("400 Bad Request", b"This is no request of a browser.\n")
    if hosts[0].partition(":")[0] not in NAMES:
        return _response("403 Forbidden", f"This page is served as {' and '.join(NAMES)} only.\n".encode())
    if method not in ("GET", "HEAD"):
        return _response("405 Method Not Allowed", b"This page can only be read.\n", Allow="GET, HEAD")
    if rest.partition(" ")[0] != "/":
        return _response("404 Not Found", b"There is only the page, at /.\n")
    watched.refresh()
    kind = "text/html; charset=utf-8"
    return _response("200 OK", watched.page, body=method == "GET", ETag=watched.tag, Content_Type=kind)


def _response(status: str, text: bytes, body: bool = True, **fields: str) -> bytes:
    every = {
        "Content_Type": "text/plain; charset=utf-8",
        "Content_Length": str(len(text)),
        "Connection": "close",
        "Cache_Control": "no-store",
        "X_Content_Type_Options": "nosniff",
        "Referrer_Policy": "no-referrer",
        "Cross_Origin_Resource_Policy": "same-origin",
        "Content_Security_Policy": "frame-ancestors 'none'",
        **fields,
    }
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in every.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + (text if body else b"")
