"""Draws lit meshes by VTK, in a process of its own: without OpenGL the library ends the process that calls it.

It needs no X server: from version 9.4 on VTK then draws by EGL or OSMesa, in software where there is no graphics card.
"""

import importlib.util
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import printable
from landscape_mpi.plot.camera import ANGLE, Camera

Pixels = NDArray[np.uint8]
"""A picture [height, width, 4], RGBA, the colours not multiplied by the opacity."""

PROGRAM = f"from {__name__} import serve; serve()"
REQUIRED = "vtkmodules"
_SAMPLES = 2
"""Pixels drawn for each pixel of the picture, along either side: this smooths the edges."""
_GLOSS, _GLOSS_POWER = 0.10, 24.0
_UNDERSIDE = 0.3
"""How bright the underside of the mesh is, which no light reaches."""


class NotDrawnError(Exception):
    """VTK cannot draw here; the message says why."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of squares, lit already.

    Attributes:
        points: float32 [ny, nx, 3].
        normals: float32 [ny, nx, 3], of length 1, upwards.
        colours: uint8 [ny, nx, 3], sRGB.
        whole: bool [ny - 1, nx - 1], which squares are drawn.
        sun: where the light that makes it shine comes from, float64 [3].
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    whole: NDArray[np.bool_]
    sun: NDArray[np.float64]


Shot = tuple[int, Camera]
"""The number of a mesh, and the camera that looks at it."""


def drawn(meshes: Sequence[Mesh], shots: Sequence[Shot], size: tuple[int, int]) -> list[Pixels]:
    """Return a picture of `size` pixels (width, height) for each shot, transparent around the mesh.

    Raises:
        NotDrawnError: VTK is not installed, or cannot draw on this machine.
    """
    if importlib.util.find_spec(REQUIRED) is None:
        raise NotDrawnError("vtk is not installed (pip install 'landscape_mpi[render]')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        input=pickle.dumps((meshes, shots, size)),
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode or not done.stdout:
        code = done.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = printable(done.stderr.decode(errors="replace")).split("\n")
        last = next((f" and said {line.strip()!r}" for line in reversed(said) if line.strip()), "")
        raise NotDrawnError(f"VTK, which needs a screen, EGL or OSMesa, ended with {how}{last}")
    return pickle.loads(done.stdout)  # type: ignore[no-any-return]  # noqa: S301 - from a process of our own


def serve() -> None:
    """Draw what comes through standard input, and end without VTK's own last steps, in which some drivers crash."""
    meshes, shots, size = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from the process that started this one
    answer = os.dup(1)
    os.dup2(2, 1)  # what a driver prints is no part of the answer
    pictures = list(_pictures(meshes, shots, size))
    with os.fdopen(answer, "wb") as stream:
        pickle.dump(pictures, stream, protocol=5)
    os._exit(0)


def _pictures(meshes: Sequence[Mesh], shots: Sequence[Shot], size: tuple[int, int]) -> Iterator[Pixels]:
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 - registers what draws
    from vtkmodules.vtkRenderingCore import vtkLight, vtkRenderer, vtkRenderWindow

    window, renderer, light = vtkRenderWindow(), vtkRenderer(), vtkLight()
    window.SetOffScreenRendering(1)
    window.SetAlphaBitPlanes(1)
    window.SetMultiSamples(0)
    window.SetSize(size[0] * _SAMPLES, size[1] * _SAMPLES)
    window.AddRenderer(renderer)
    renderer.SetBackgroundAlpha(0)
    renderer.AutomaticLightCreationOff()
    light.SetLightTypeToSceneLight()
    light.SetPositional(0)
    renderer.AddLight(light)
    actors = [_actors(mesh) for mesh in meshes]
    for number, camera in shots:
        renderer.RemoveAllViewProps()
        for actor in actors[number]:
            renderer.AddActor(actor)
        light.SetPosition(*meshes[number].sun)
        view = renderer.GetActiveCamera()
        view.SetViewAngle(ANGLE)
        view.SetPosition(*camera.place)
        view.SetFocalPoint(*camera.focus)
        view.SetViewUp(0, 0, 1)
        renderer.ResetCameraClippingRange()
        window.Render()
        yield _smoothed(_grabbed(window))


def _actors(mesh: Mesh) -> list[Any]:
    """Return a mesh as VTK draws it, in its own colours: from above with a little gloss, from below dark."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    number = np.arange(mesh.points.shape[0] * mesh.points.shape[1]).reshape(mesh.points.shape[:2])
    corners = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    first, second, third, fourth = (corner[mesh.whole] for corner in corners)
    triangles = np.concatenate([np.stack([first, second, third], axis=1), np.stack([first, third, fourth], axis=1)])
    points, cells = vtkPoints(), vtkCellArray()
    points.SetData(numpy_to_vtk(mesh.points.reshape(-1, 3), deep=True))
    cells.SetData(3, numpy_to_vtkIdTypeArray(triangles.ravel(), deep=True))
    actors = []
    for share in (1.0, _UNDERSIDE):
        data, mapper, actor = vtkPolyData(), vtkPolyDataMapper(), vtkActor()
        data.SetPoints(points)
        data.SetPolys(cells)
        data.GetPointData().SetNormals(numpy_to_vtk(mesh.normals.reshape(-1, 3), deep=True))
        colours = (mesh.colours.reshape(-1, 3) * share).astype(np.uint8)
        data.GetPointData().SetScalars(numpy_to_vtk(colours, deep=True))
        mapper.SetInputData(data)
        actor.SetMapper(mapper)
        how = actor.GetProperty()
        how.SetAmbient(1)
        how.SetDiffuse(0)
        how.SetSpecular(_GLOSS if share == 1 else 0)
        how.SetSpecularPower(_GLOSS_POWER)
        how.SetBackfaceCulling(share == 1)
        how.SetFrontfaceCulling(share != 1)
        actors.append(actor)
    return actors


def _grabbed(window: Any) -> NDArray[np.float32]:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.SetInputBufferTypeToRGBA()
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 4)
    upright: NDArray[np.float32] = pixels[::-1].astype(np.float32)
    return upright


def _smoothed(pixels: NDArray[np.float32]) -> Pixels:
    """Return the means of squares of pixels, in which a transparent pixel has no colour."""
    height, width, _ = pixels.shape
    opacity = pixels[..., 3:] / 255
    weighted = np.concatenate([pixels[..., :3] * opacity, opacity], axis=-1)
    means = weighted.reshape(height // _SAMPLES, _SAMPLES, width // _SAMPLES, _SAMPLES, 4).mean(axis=(1, 3))
    colour = means[..., :3] / np.maximum(means[..., 3:], 1e-6)
    return np.concatenate([colour, 255 * means[..., 3:]], axis=-1).round().astype(np.uint8)
