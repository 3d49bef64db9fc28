"""What an HDF5 file can hold in place of its own data; each is put where a dataset was."""

import h5py
import numpy as np

SECRET = np.arange(64.0)


def external_link(parent, name, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = SECRET
    parent[name] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft_link(parent, name, folder):
    parent[name] = h5py.SoftLink("/xcoordinates")


def external_storage(parent, name, folder):
    (folder / "secret").write_bytes(SECRET.tobytes())
    parent.create_dataset(name, (8,), np.float64, external=[(str(folder / "secret"), 0, 64)])


def virtual(parent, name, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = SECRET
    layout = h5py.VirtualLayout((8,), np.float64)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (64,))[:8]
    parent.create_virtual_dataset(name, layout)


def absurd(parent, name, folder):
    """A dataset of 2^60 values in a few bytes."""
    parent.create_dataset(name, (1 << 60,), np.float64, chunks=(1024,))


def unknown_filter(parent, name, folder):
    """Values behind a filter that nobody has, for which HDF5 would look for a library to load."""
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((8,))
    made.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((8,))
    h5py.h5d.create(parent.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, space, made)


POINTERS = {
    external_link: "is a link; only data stored in the file itself is read",
    soft_link: "is a link; only data stored in the file itself is read",
    external_storage: "keeps its values in another file; only data stored in the file itself is read",
    virtual: "keeps its values in another file; only data stored in the file itself is read",
    absurd: "claims 1152921504606846976 values, expected at most 16777216",
    unknown_filter: "is stored through filter 32123; expected none but deflate, shuffle, fletcher32, lzf",
}
"""What they are refused with."""
