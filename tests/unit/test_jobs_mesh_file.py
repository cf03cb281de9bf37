# SPDX-License-Identifier: Apache-2.0
"""mesh.npz holds what it says or is refused, before memory is taken for a false size."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from blender_addon.jobs.arrays import MAX_TRIANGLES, MeshArrays, read_mesh
from blender_addon.jobs.errors import JobError, MeshError
from tests.jobs import tetrahedron


def test_mesh_written_by_numpy_itself_is_read(tmp_path):
    mesh = tetrahedron()
    np.savez(tmp_path / "mesh.npz", **mesh.present())
    assert read_mesh(tmp_path / "mesh.npz") == mesh


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"positions": np.zeros((4, 2), "f4")}, "shape (4, 2); expected (n, 3)"),
        ({"positions": np.zeros((4, 3), "i4")}, "holds int32; expected float32"),
        ({"positions": None}, "positions holds object"),
        ({"triangles": np.array([[0, 1, 4]] * 4)}, "refers to number 4; there are 4 vertices"),
        ({"triangles": np.array([[0, 1, -1]] * 4)}, "refers to number -1"),
        ({"triangles": np.array([[0, 1, 2**40]] * 4)}, "beyond int32"),
        ({"triangle_uvs": np.array([[0, 1, 9]] * 4)}, "there are 4 uv points"),
        ({"triangle_uvs": np.zeros((3, 3), "i4")}, "3 triangles; expected 4"),
        ({"normals": np.zeros((4, 3), "f4")}, "normals has the shape"),
        ({"objects": np.zeros(5, "i4")}, "5 triangles; expected 4"),
        ({"materials": np.zeros(MAX_TRIANGLES + 1, "i1")}, "at most 50,000,000"),
    ],
)
def test_wrong_arrays_are_mesh_errors(change, sentence):
    with pytest.raises(MeshError) as caught:
        MeshArrays(**{**tetrahedron().present(), **change})
    assert sentence in str(caught.value)


def npy(descr="'<f4'", shape="(4, 3)", body=b"\0" * 48, order="False", version=1):
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + body


def mesh_with(path, method=zipfile.ZIP_STORED, **entries):
    arrays = {}
    for name, array in tetrahedron().present().items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        arrays[name] = buffer.getvalue()
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in {**arrays, **entries}.items():
            if data is not ...:
                archive.writestr(f"{name}.npy", data)
    return path


CRAFTED = [
    ({"positions": npy(shape="(4000000000, 3)")}, "48,000,000,000 bytes|4,000,000,000 vertices"),
    ({"positions": npy(shape="(40000000, 3)")}, "claims 480,000,000 bytes and has 48"),
    ({"positions": npy(shape="(4, 999999999999)")}, "has the shape"),
    ({"positions": npy(shape="(99999999999999999999, 3)")}, "unreadable header"),
    ({"positions": npy(shape="(-4, 3)")}, "unreadable header"),
    ({"positions": npy(shape="(2, 2, 3)")}, "has the shape"),
    ({"positions": npy(shape="()", body=b"\0" * 4)}, "has the shape"),
    ({"positions": npy(shape="(" + "1" * 300 + ")")}, "unreadable header"),
    ({"positions": npy(descr="'|O'")}, "holds .O"),
    ({"positions": npy(descr="'<f8'", body=b"\0" * 96)}, "holds <f8"),
    ({"positions": npy(descr="'>f4'")}, "holds >f4"),
    ({"positions": npy(descr="[('a', '<f4')]")}, "unreadable header"),
    ({"positions": npy(descr="__import__('os')")}, "unreadable header"),
    ({"positions": npy(order="True")}, "column order"),
    ({"positions": npy(body=b"\0" * 49)}, "claims 48 bytes and has 49"),
    ({"positions": npy(version=4)}, "no npy array"),
    ({"positions": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"}, "header of 4,294,967,295 bytes"),
    ({"positions": b"\x93NUMPY\x01\x00\x00\x02{"}, "unreadable header"),
    ({"positions": b""}, "no npy array"),
    ({"positions": b"\x80\x04K\x01."}, "no npy array"),
    ({"positions": ...}, "positions is missing"),
    ({"../evil": b"x"}, "unexpected entry"),
    ({"extra": npy()}, "unexpected entry"),
    ({"triangles": npy(descr="'<i4'", shape="(1, 3)", body=b"\xff" * 12)}, "4 triangles|1 triangles|expected"),
]


@pytest.mark.parametrize(("entries", "sentence"), CRAFTED, ids=range(len(CRAFTED)))
def test_crafted_mesh_is_refused_before_memory_is_taken(tmp_path, entries, sentence):
    path = mesh_with(tmp_path / "mesh.npz", **entries)
    tracemalloc.start()
    try:
        with pytest.raises(JobError, match=sentence) as caught:
            read_mesh(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


def test_npy_headers_of_all_versions_are_read(tmp_path):
    for version in (1, 2, 3):
        path = mesh_with(tmp_path / f"{version}.npz", positions=npy(version=version))
        assert not read_mesh(path).positions.any()


def test_compressed_mesh_is_refused(tmp_path):
    bomb = npy(shape="(1000000, 3)", body=b"\0" * 12_000_000)
    path = mesh_with(tmp_path / "mesh.npz", zipfile.ZIP_DEFLATED, positions=bomb)
    with pytest.raises(JobError, match="is compressed"):
        read_mesh(path)


def test_duplicate_entry_is_refused(tmp_path):
    path = mesh_with(tmp_path / "mesh.npz")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("uvs.npy", npy())
    with pytest.raises(JobError, match="unexpected entry"):
        read_mesh(path)


def test_mesh_file_of_absurd_size_is_refused(tmp_path):
    path = tmp_path / "mesh.npz"
    with open(path, "wb") as file:
        file.truncate(7 * 1024**3)  # sparse
    with pytest.raises(JobError, match=r"at most 6,442,450,944 are allowed"):
        read_mesh(path)
