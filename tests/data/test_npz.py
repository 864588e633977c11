"""Reading npz files, above all bad ones."""

from __future__ import annotations

import io
import mmap
import os
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from onnx_oto.data import Augment, Input, Labels, Tables
from onnx_oto.data.archive import read_arrays
from onnx_oto.data.npz import open_npz
from onnx_oto.errors import DataError, StorageError


def load(path: Path) -> Tables:
    return open_npz(path).read()


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Return a good file's arrays: 6 + 4 images of 5x5; a change of None removes a key."""
    content: dict[str, Any] = {
        "x_train": np.zeros((6, 5, 5), np.uint8),
        "y_train": np.arange(6),
        "x_test": np.zeros((4, 5, 5), np.uint8),
        "y_test": np.arange(4),
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def save(path: Path, **changes: Any) -> Path:
    np.savez(path, **arrays(**changes))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_good_file(file: Path, write: Any) -> None:
    content = arrays(y_train=np.array([3, 1, 4, 1, 5, 9]))
    write(file, **content)
    raw = load(file)
    np.testing.assert_array_equal(raw.train_table.inputs[""], content["x_train"])
    np.testing.assert_array_equal(raw.train_table.targets["y"], content["y_train"])
    np.testing.assert_array_equal(raw.test_table.targets["y"], content["y_test"])
    assert raw.test_table.inputs[""].shape == (4, 5, 5)


def test_named_inputs_and_no_target(file: Path) -> None:
    np.savez(
        file,
        x_train__a=np.ones((3, 2)),
        x_train__b=np.ones(3),
        x_test__a=np.ones((1, 2)),
        x_test__b=np.ones(1),
    )
    raw = load(file)
    assert list(raw.train_table.inputs) == ["a", "b"]
    assert not raw.train_table.targets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": None},
            r"'x_train' is missing, the file holds x_test, y_test, y_train: expected x_train, y_",
        ),
        ({"y_train": None}, "'y_train' is missing, 'y_test' is there"),
        ({"x_test": None}, "'x_test' is missing"),
        ({"extra": np.ones(3)}, "unknown array 'extra': expected"),
        (
            {"x_train": np.zeros((0, 5, 5), np.uint8), "y_train": np.zeros(0, int)},
            r"x_train has shape \(0, 5, 5\)",
        ),
        ({"x_test": np.uint8(3)}, r"x_test has shape \(\): the first axis counts the samples"),
        ({"x_train": np.zeros((6, 0), np.uint8)}, "its samples are empty"),
        ({"y_train": np.arange(5)}, "x_train has 6 samples and y_train has 5: they must agree"),
        ({"x_train": np.array(["a"] * 6)}, "x_train has dtype <U1: store numbers"),
        (
            {"x_train": np.zeros((6, 5, 4), np.uint8)},
            r"samples of x_train have shape \(5, 4\), those of x_test \(5, 5\)",
        ),
        ({"x_train": np.zeros((6, 5, 5), np.float32)}, "x_train is float32 and x_test is uint8"),
        ({"x_train__a": np.zeros((6, 2))}, "'x_train' and 'x_train__a' are both there"),
    ],
)
def test_what_does_not_fit_is_named(file: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(save(file, **changes))
    assert str(file) in str(caught.value)


def test_an_input_that_only_one_split_has(file: Path) -> None:
    np.savez(file, x_train__a=np.ones(3), x_train__b=np.ones(3), x_test__a=np.ones(3))
    with pytest.raises(DataError, match="'x_test__b' is missing"):
        load(file)


def test_objects_are_never_unpickled(file: Path, tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (flag,))

    save(file, x_train=np.array([Bomb()] * 6, object))
    with pytest.raises(DataError, match="array 'x_train' cannot be read: it holds Python objects"):
        load(file)
    assert not flag.exists()


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*nothing\.npz.*No such file"):
        load(tmp_path / "nothing.npz")
    with pytest.raises(StorageError, match="cannot read"):
        load(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(StorageError, match="it is not a regular file"):
        load(file)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04" + b"\0" * 40])
def test_foreign_files(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match="no npz file, or a truncated one"):
        load(file)


def test_other_members_and_an_empty_archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"member 'readme\.txt' is no array"):
        load(file)
    with zipfile.ZipFile(file, "w"):
        pass
    with pytest.raises(DataError, match="holds no arrays"):
        load(file)


def test_every_truncation_and_many_flipped_bytes_are_data_errors(file: Path) -> None:
    """Damage is found or harmless (a flipped byte in a time stamp, say), and never another exception."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **arrays(x_train=np.random.default_rng(0).integers(0, 255, (6, 5, 5), np.uint8))
    )
    good = buffer.getvalue()
    for length in range(0, len(good) - 1, 7):
        file.write_bytes(good[:length])
        with pytest.raises(DataError):
            load(file)
    refused = 0
    for position in range(0, len(good), 5):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            load(file)
        except DataError:
            refused += 1
    assert refused > 50


def test_damaged_lzma_members_are_data_errors(file: Path) -> None:
    """zipfile lets the errors of this codec through as they are."""
    pytest.importorskip("lzma")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for key, array in arrays().items():
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    assert load(file).train_table.inputs[""].shape == (6, 5, 5)
    good = file.read_bytes()
    start = good.index(b"x_train.npy") + len("x_train.npy")
    refused = 0
    for position in range(start, start + 60):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            load(file)
        except DataError:
            refused += 1
    assert refused > 40  # the version of the codec that wrote it may be anything


def test_bzip2_is_refused(file: Path) -> None:
    """A small block of it inflates to gigabytes, and zipfile cannot stop that."""
    pytest.importorskip("bz2")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x_train.npy", npy((6, 5, 5)))
    with pytest.raises(DataError, match="array 'x_train' is compressed in a way that is not read"):
        load(file)


# --- files that claim more than is in them --------------------------------------------------------------------------
def npy(shape: object, values: bytes | None = None, descr: str = "|u1") -> bytes:
    """Return an npy file of zeros whose header says `shape`."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    if values is None:
        values = bytes(int(np.prod(shape)))
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values


def put(file: Path, **members: bytes | None) -> Path:
    """Write an archive of a good file's members and these; None leaves one out."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays().items():
            if key not in members:
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(f"{key}.npy", buffer.getvalue())
        for key, content in members.items():
            if content is not None:
                archive.writestr(f"{key}.npy", content)
    return file


def put_bomb(
    file: Path, key: str, megabytes: int, method: int = zipfile.ZIP_DEFLATED, **members: bytes | None
) -> None:
    """Write an archive of which one member is a long array of zeros, block by block."""
    put(file, **{key: None, **members})
    with (
        zipfile.ZipFile(file, "a", method, compresslevel=1) as archive,
        archive.open(f"{key}.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy((megabytes << 20,), b""))
        for _ in range(megabytes):
            member.write(bytes(1 << 20))


def peak_bytes(work: Any) -> int:
    """Return the most memory that Python and numpy held at once while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((True, 784), bytes(784)), r"\(True, 784\) is no shape"),
        (npy((-1, 5), bytes(5)), r"\(-1, 5\) is no shape"),
        (npy((6.0, 5), bytes(30)), "shape is not valid"),
        (npy((2**62, 2**62), bytes(30)), "the file holds 30"),
        (npy((6, 5, 5), bytes(149)), r"uint8 of shape \(6, 5, 5\) takes 150 bytes, the file holds 149"),
        (npy((6, 5, 5), bytes(151)), "takes 150 bytes, the file holds 151"),
        (npy((6,), bytes(6), "|O"), "holds Python objects"),
        (npy((6,), bytes(48), "[('a', '|O')]"), "cannot be read"),
        (npy((6, 5, 5)).replace(b"'shape'", b"'\x0eshape"), "cannot be read: it is damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "cannot be read: it is damaged"),
        (b"\x93NUMPY\x07\x00\xff\xff", "cannot be read: it is damaged|version"),
    ],
)
def test_headers_that_cannot_be_true(file: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"array 'x_train'.*{message}"):
        load(put(file, x_train=content))


@pytest.mark.parametrize(
    ("key", "megabytes", "message"),
    [
        ("x_train", 1025, "its arrays take 1074790403 bytes, .* array 'x_train' most of them"),
        ("stowaway", 64, "unknown array 'stowaway'"),
    ],
)
def test_bombs_are_refused_before_they_go_off(file: Path, key: str, megabytes: int, message: str) -> None:
    others = {} if key == "x_train" else {"x_train": npy((3,))}
    put_bomb(file, key, megabytes, y_train=None, y_test=None, x_test=npy((3,)), **others)

    def refused() -> None:
        with pytest.raises(DataError, match=message):
            load(file)

    assert peak_bytes(refused) < 20 << 20


def test_what_is_refused_for_its_size_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(
        file, **arrays(x_train=np.zeros((6, 500, 500), np.uint8), x_test=np.zeros((4, 500, 500), np.uint8))
    )
    load(file)
    monkeypatch.setattr("onnx_oto.data.archive.MOST_INFLATED", 1 << 20)
    with pytest.raises(
        DataError, match=r"its arrays take 2500080 bytes, \d+ times the size .* array 'x_train' most"
    ):
        load(file)
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    with pytest.raises(DataError, match="take 2500080 bytes, 1048576 bytes of memory are free"):
        load(file)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_that_lies_about_sizes(file: Path, method: int) -> None:
    """The directory at the end promises less than inflates: no more is read."""
    put_bomb(file, "y_train", 96, method)
    content = bytearray(file.read_bytes())
    entry = content.rindex(b"y_train.npy") - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + 24 : entry + 28] = (128 + 6).to_bytes(4, "little")
    file.write_bytes(content)

    def refused() -> None:
        with pytest.raises(DataError, match="'y_train'"):
            load(file)

    assert peak_bytes(refused) < 80 << 20


@pytest.mark.parametrize("other", ["x_train", "x_train.npy"])
def test_two_arrays_of_one_name(file: Path, other: str) -> None:
    put(file)
    with zipfile.ZipFile(file, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(other, npy((6, 5, 5)))
    with pytest.raises(DataError, match="array 'x_train' is there twice: keep one of them"):
        load(file)


def test_arrays_in_either_order_of_memory(file: Path) -> None:
    x = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    save(file, x_train=np.asfortranarray(x), x_test=x[:4].astype(">f4").astype("<f4"))
    np.testing.assert_array_equal(load(file).train_table.inputs[""], x)


def test_only_wanted_arrays_are_read(file: Path) -> None:
    put_bomb(file, "other", 64)
    assert peak_bytes(lambda: read_arrays(file, lambda blanks: ["y_test"])) < 20 << 20


# --- arrays that stay in their file ---------------------------------------------------------------------------------
@pytest.fixture
def mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let arrays of a hundred bytes count as large."""
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 100)


def is_mapped(array: Any) -> bool:
    """Say whether the values of an array lie in a file."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    return array is not None


@pytest.mark.usefixtures("mapping")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, ">f4"])
def test_large_arrays_stay_in_the_file_and_small_ones_do_not(file: Path, order: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    content = {
        "x_train": np.asarray(rng.integers(0, 200, (60, 5, 7)).astype(dtype), order=order),
        "x_test": np.asarray(rng.integers(0, 200, (20, 5, 7)).astype(dtype), order=order),
        "y_train": np.arange(60, dtype=np.uint8),
        "y_test": np.arange(20, dtype=np.uint8),
    }
    np.savez(file, **content)
    tables = load(file)
    x: Any = tables.train_table.inputs[""]
    assert is_mapped(x)
    assert type(x) is np.ndarray
    assert not x.flags.writeable
    assert not is_mapped(tables.train_table.targets["y"])
    rows = np.array([59, 0, 13, 13])
    np.testing.assert_array_equal(x[rows], content["x_train"][rows])
    np.testing.assert_array_equal(tables.test_table.inputs[""][np.arange(20)], content["x_test"])
    assert not is_mapped(read_arrays(file)["x_train"])


@pytest.mark.usefixtures("mapping")
def test_what_is_compressed_is_unpacked_to_a_file(file: Path) -> None:
    np.savez_compressed(file, **arrays())
    assert is_mapped(load(file).train_table.inputs[""])
    assert not is_mapped(read_arrays(file)["x_train"])


@pytest.mark.usefixtures("mapping")
def test_arrays_larger_than_memory_can_be_mapped(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(file, x_train=np.ones((6, 50, 50), np.uint8), x_test=np.ones((4, 50, 50), np.uint8))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    assert is_mapped(load(file).train_table.inputs[""])
    np.savez_compressed(file, **arrays(x_train=np.ones((6, 50, 50)), x_test=np.ones((4, 50, 50))))
    assert is_mapped(load(file).train_table.inputs[""])
    with pytest.raises(DataError, match="10000 bytes of memory are free"):
        read_arrays(file)


@pytest.mark.usefixtures("mapping")
def test_damage_in_a_mapped_array_is_found_before_it_is_used(file: Path) -> None:
    """Bytes from the header of the member to the end of its values, flipped one at a time.

    Only what the directory at the end repeats does no harm, at most the 61 bytes before the array's own header.
    """
    x = np.random.default_rng(0).integers(0, 255, (6, 90, 90), np.uint8)
    save(file, x_train=x, x_test=x[:4])
    good = file.read_bytes()
    begin, values = good.index(b"x_train.npy") - 30, good.index(x.tobytes())
    harmless = 0
    for position in (*range(begin, values, 3), *range(values, values + x.nbytes, 2999)):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            found = load(file).train_table.inputs[""]
        except DataError:
            continue
        harmless += 1
        np.testing.assert_array_equal(found[np.arange(6)], x)
    assert harmless <= 61 // 3


def test_a_file_that_changes_between_looking_and_reading(file: Path) -> None:
    opening = open_npz(save(file))
    save(file, x_train=np.zeros((6, 5, 4), np.uint8), x_test=np.zeros((4, 5, 4), np.uint8))
    with pytest.raises(DataError, match="it was changed after it was opened: start again"):
        opening.read()


def test_headers_are_known_without_values(file: Path) -> None:
    """A file whose values are out of proportion can be looked at."""
    put_bomb(file, "x_train", 64, y_train=None, y_test=None, x_test=npy((3,)))
    found: list[Any] = []
    assert peak_bytes(lambda: found.append(open_npz(file))) < 10 << 20
    assert found[0].train.samples == 64 << 20
    assert found[0].train.inputs[""].shape == ()
    assert found[0].test.inputs[""].dtype == np.uint8


def test_targets_by_name(file: Path) -> None:
    np.savez(file, **arrays(y_train=None, y_test=None, y_train__a=np.ones(6), y_test__a=np.ones(4)))
    assert list(load(file).train_table.targets) == ["a"]
    np.savez(file, **arrays(y_train=None, y_train__a=np.ones(6)))
    with pytest.raises(DataError, match="'y_test__a' is missing, 'y_train__a' is there: both splits need it"):
        load(file)


@pytest.mark.parametrize(
    ("wanted", "target", "augment", "message"),
    [
        (
            Input((3,), np.dtype(np.float32)),
            Labels(classes=3),
            None,
            r"x_train: samples have shape \[\], the model",
        ),
        (
            Input((), np.dtype(np.float32)),
            Labels((None, 2), 3),
            None,
            r"y_train: one target has shape \[\], the loss",
        ),
        (
            Input((), np.dtype(np.float32)),
            Labels(classes=3),
            Augment(True),
            "no augmentation: samples have no clear",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_values_are_read(
    file: Path, wanted: Input, target: Labels, augment: Augment | None, message: str
) -> None:
    put_bomb(file, "x_train", 64, y_train=npy((64 << 20,)), y_test=npy((3,)), x_test=npy((3,)))
    opening = open_npz(file)

    def refused() -> None:
        with pytest.raises(DataError, match=message):
            opening.fit({"x": wanted}, {"y": target}, augment=augment)

    assert peak_bytes(refused) < 10 << 20
