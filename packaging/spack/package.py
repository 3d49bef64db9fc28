"""A recipe for Spack, with parallel HDF5: `package.py` in the folder `packages/py_landscape_mpi` of a repository of yours."""

from spack.package import *
from spack_repo.builtin.build_systems.python import PythonPackage


class PyLandscapeMpi(PythonPackage):
    """Loss landscapes of neural networks, swept by many MPI ranks into one HDF5 surface."""

    license("MIT")

    version("develop")  # of a checkout: `spack dev-build`, or `spack develop --path CHECKOUT py-landscape-mpi@develop`

    depends_on("c", type="build")
    depends_on("py-setuptools@77:", type="build")
    with default_args(type=("build", "run")):
        depends_on("python@3.11:")
        depends_on("py-h5py@3.10:+mpi")
        depends_on("py-matplotlib@3.8:")
        depends_on("py-mpi4py@4.0:")
        depends_on("py-msgspec@0.18:")
        depends_on("py-numpy@1.26:")
        depends_on("py-plotly@5:")
        depends_on("py-pyyaml@6.0:")
        depends_on("py-safetensors@0.4:")
        depends_on("py-threadpoolctl@3.1:")
        depends_on("py-torch@2.6:")
