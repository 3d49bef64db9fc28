"""What VTK itself makes of a .vts file: its arrays, and a picture from above; run as a program it draws.

    python vtk_views.py FILE.vts PICTURE.npy

The picture, uint8 [400, 400], shows `zvalue` from black (lowest) to white over all of alpha and beta; where there is
nothing to see it has the value 77. The exit code is 77 where nothing can be drawn here.
"""

import sys
from ctypes.util import find_library

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLStructuredGridReader

PIXELS, NOTHING, CANNOT = 400, 77, 77


def read_grid(path):
    """Return VTK's structured grid of a file."""
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


def arrays(grid):
    """Return the point data by name, [ny, nx] or [nz, ny, nx], and the points, with 3 coordinates each."""
    extent = grid.GetExtent()
    shape = (extent[5] + 1, extent[3] + 1, extent[1] + 1)[0 if extent[5] else 1 :]
    data = grid.GetPointData()
    found = {
        data.GetArrayName(i): vtk_to_numpy(data.GetArray(i)).reshape(shape) for i in range(data.GetNumberOfArrays())
    }
    return found, vtk_to_numpy(grid.GetPoints().GetData()).reshape(*shape, 3)


def read_line(path):
    """Return the point data of a .vtp file by name, its points [n, 3], and the order in which the line joins them."""
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    line = reader.GetOutput()
    every = [line.GetPointData().GetArray(i) for i in range(line.GetPointData().GetNumberOfArrays())]
    ids = line.GetCell(0).GetPointIds()
    order = [ids.GetId(i) for i in range(ids.GetNumberOfIds())]
    return {array.GetName(): vtk_to_numpy(array) for array in every}, vtk_to_numpy(line.GetPoints().GetData()), order


def picture(grid):
    """Return the grid seen from above; row 0 is the lowest beta."""
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 - registers what draws
    from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter

    if not (find_library("EGL") or find_library("OSMesa")):
        # asked whether it supports OpenGL, a window without either dies of a segmentation fault
        sys.stderr.write("there is neither EGL nor OSMesa here (apt-get install libegl1)")
        sys.exit(CANNOT)
    renderer, window, image = vtkRenderer(), vtkRenderWindow(), vtkWindowToImageFilter()
    renderer.SetBackground(*[NOTHING / 255] * 3)
    renderer.AddActor(_actor(grid))
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(PIXELS, PIXELS)
    window.AddRenderer(renderer)
    if not window.SupportsOpenGL():
        sys.exit(CANNOT)
    _look_down(renderer.GetActiveCamera(), grid.GetBounds())
    window.Render()
    image.SetInput(window)
    image.Update()
    return vtk_to_numpy(image.GetOutput().GetPointData().GetScalars()).reshape(PIXELS, PIXELS, -1)[..., 0]


def _actor(grid):
    from vtkmodules.vtkCommonCore import vtkLookupTable
    from vtkmodules.vtkRenderingCore import vtkActor, vtkDataSetMapper

    greys, mapper, actor = vtkLookupTable(), vtkDataSetMapper(), vtkActor()
    greys.SetHueRange(0, 0)
    greys.SetSaturationRange(0, 0)
    greys.SetValueRange(0, 1)
    greys.SetRampToLinear()
    greys.Build()
    mapper.SetInputData(grid)
    mapper.SetLookupTable(greys)
    mapper.SetScalarRange(grid.GetPointData().GetScalars().GetRange())
    mapper.InterpolateScalarsBeforeMappingOn()
    actor.SetMapper(mapper)
    actor.GetProperty().LightingOff()
    return actor


def _look_down(camera, bounds):
    """Show all of alpha and beta, which have to have one length."""
    left, right, bottom, top, low, high = bounds
    camera.ParallelProjectionOn()
    camera.SetParallelScale((top - bottom) / 2)
    camera.SetFocalPoint((left + right) / 2, (bottom + top) / 2, low)
    camera.SetPosition((left + right) / 2, (bottom + top) / 2, high + 10)
    camera.SetViewUp(0, 1, 0)
    camera.SetClippingRange(1, high - low + 20)


if __name__ == "__main__":
    np.save(sys.argv[2], picture(read_grid(sys.argv[1])))
