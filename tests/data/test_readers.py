"""Files in the formats of published data sets: what is read of them, and what is said of damaged and foreign ones."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
from kinds import cifar, idx, idx_bytes, images, labels, svhn

from onnx_oto.data import Dataset, Input, Labels, Reading, batches, open_data
from onnx_oto.errors import DataError, OtoError, StorageError, UsageError

FLOAT = np.dtype(np.float32)
SUBSET = Path(__file__).parents[2] / "onnx_oto/assets/fashion_mnist_subset.npz"


def fitted(path: Path, shape: tuple[int, ...], classes: int, reading: Reading | None = None) -> Dataset:
    return open_data(path, reading).fit({"x": Input(shape, FLOAT)}, {"y": Labels(classes=classes)})


# --- npy ------------------------------------------------------------------------------------------------------------
def test_large_npy_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 100)
    x = np.asfortranarray(np.random.default_rng(0).random((50, 3), np.float32))
    np.save(tmp_path / "x_train.npy", x)
    opening = open_data(tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: pytest.fail("nothing is read"))
    train = opening.fit({"x": Input((3,), FLOAT)}, {}).train
    np.testing.assert_array_equal(
        train.batch(np.arange(9), None).inputs["x"], x[train.batch(np.arange(9), None).rows]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x_train\.npy' is empty \(0 bytes\): write it again with numpy.save"),
        (b"hello", r"x_train\.npy': member 'x_train' is no array"),
        (np.lib.format.magic(1, 0), r"x_train\.npy': array 'x_train' cannot be read: it is damaged"),
    ],
)
def test_npy_files_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x_train.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path)


def test_objects_in_npy_files_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(DataError, match="it holds Python objects, which are never loaded"):
        open_data(tmp_path / "x.npy")


def test_folders_of_npy_files_have_the_keys_of_an_npz_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x_trian.npy", np.ones(3))
    with pytest.raises(
        DataError, match="'x_train' is missing, the file holds x_trian: expected x_train, y_train"
    ):
        open_data(tmp_path)
    np.save(tmp_path / "x_train.npy", np.ones(3))
    with pytest.raises(DataError, match="unknown array 'x_trian'"):
        open_data(tmp_path)


def test_an_npy_file_that_grows_meanwhile(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((30, 2)))
    opening = open_data(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.ones((40, 2)))
    with pytest.raises(DataError, match="the data were changed after they were opened"):
        opening.fit({"x": Input((2,), FLOAT)}, {})


# --- idx ------------------------------------------------------------------------------------------------------------
def test_idx_gives_the_batches_that_npz_gives(tmp_path: Path) -> None:
    held = np.load(SUBSET)
    for key, name in (
        ("x_train", "train-images-idx3-ubyte.gz"),
        ("y_train", "train-labels-idx1-ubyte.gz"),
        ("x_test", "t10k-images-idx3-ubyte"),
        ("y_test", "t10k-labels.idx1-ubyte"),
    ):
        content = idx_bytes(held[key].astype(np.uint8))
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    one, other = (
        batches(fitted(path, (1, 28, 28), 10).train, 64, seed=1, epoch=1) for path in (tmp_path, SUBSET)
    )
    pairs = list(zip(one, other, strict=True))
    assert len(pairs) > 5
    for a, b in pairs:
        assert a.inputs["x"].tobytes() == b.inputs["x"].tobytes()
        assert a.targets["y"].tobytes() == b.targets["y"].tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64])
def test_idx_of_every_type(tmp_path: Path, dtype: type) -> None:
    x = np.arange(-60, 60).reshape(20, 2, 3).astype(dtype)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(x))
    dataset = open_data(tmp_path).fit({"x": Input((2, 3), FLOAT)}, {})
    batch = dataset.train.batch(np.arange(10), None)
    wanted = x[batch.rows] * np.float32(1 / 255) if dtype == np.uint8 else x[batch.rows]
    np.testing.assert_array_equal(batch.inputs["x"], wanted.astype(np.float32))


@pytest.mark.parametrize("packed", [False, True])
def test_large_idx_files_are_mapped_or_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 100)
    x, content = images(5, 6)["train"], idx_bytes(images(5, 6)["train"])
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    (data / "train-images-idx3-ubyte").write_bytes(gzip.compress(content) if packed else content)
    for _ in range(2):
        train = open_data(data, Reading(cache=cache)).fit({"x": Input((5, 6), FLOAT)}, {}).train
        batch = train.batch(np.arange(20), None)
        np.testing.assert_array_equal(batch.inputs["x"], x[batch.rows] * np.float32(1 / 255))
    assert len(list(cache.glob("*"))) == (1 if packed else 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"", r"is empty \(0 bytes\)"),
        (
            "train-images-idx3-ubyte",
            b"\0\0\x07\x03" + b"\0" * 12,
            "is no idx file: it begins with the bytes 00 00 07",
        ),
        ("train-images-idx3-ubyte", b"\x89PNG\r\n", "is no idx file: it begins with the bytes 89 50 4e 47"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\0" * 5, "is truncated: it ends within its head"),
        (
            "train-images-idx3-ubyte",
            idx_bytes(np.zeros((30, 5, 6), np.uint8))[:-1],
            r"is truncated: values of shape \[30, 5, 6\] take 900 bytes, 899 are there",
        ),
        (
            "train-images-idx3-ubyte",
            idx_bytes(np.zeros((30, 5, 6), np.uint8)) + b"\0",
            r"is damaged: values of shape \[30, 5, 6\] take 900 bytes, there are more",
        ),
        (
            "train-images-idx3-ubyte",
            gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 99, (30, 5, 6), np.uint8)), mtime=0)[
                :-99
            ],
            "is a damaged or truncated gzip file",
        ),
        (
            "train-images-idx3-ubyte",
            gzip.compress(idx_bytes(np.zeros((30, 5, 6), np.uint8))[:-7], mtime=0),
            "is truncated: .* take 900 bytes, 893 are there",
        ),
        (
            "train-images-idx3-ubyte",
            gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 1 << 20, 1 << 10, 1 << 10), mtime=0),
            r"claims 1099511627776 bytes, \d+ times its size: unpack it \(gunzip\)",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            idx_bytes(np.zeros(29, np.uint8)),
            "x_train has 30 samples and y_train has 29",
        ),
        (
            "fmnist-train-images-idx3-ubyte",
            b"",
            "holds several data sets, '...' and 'fmnist-...': give each",
        ),
        ("train-images.idx3-ubyte", b"", "are the same part of the data: keep one of them"),
        (
            "t10k-images-idx3-ubyte",
            idx_bytes(np.zeros((12, 5, 7), np.uint8)),
            r"samples of x_train have shape \(5, 6\)",
        ),
    ],
)
def test_idx_files_that_are_none(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        fitted(tmp_path, (5, 6), 10)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (
            "train-images-idx3-ubyte",
            r"holds no train-images-idx3-ubyte\(.gz\): it is needed beside t10k-images",
        ),
        ("t10k-images-idx3-ubyte", r"holds no t10k-images-idx3-ubyte\(.gz\)"),
        ("t10k-labels-idx1-ubyte.gz", "'y_test' is missing, 'y_train' is there"),
    ],
)
def test_idx_files_that_are_not_there(tmp_path: Path, gone: str, message: str) -> None:
    idx(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(DataError, match=message):
        open_data(tmp_path)


# --- CIFAR ----------------------------------------------------------------------------------------------------------
def cifar100(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write CIFAR-100; return images, coarse and fine labels of the training samples."""
    x, coarse, fine = images(3, 32, 32), labels(20, np.uint8), labels(100, np.uint8)
    for split in x:
        rows = [coarse[split][:, None], fine[split][:, None], x[split].reshape(-1, 3072)]
        (folder / f"{split}.bin").write_bytes(np.concatenate(rows, axis=1).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine {i}" for i in range(100)) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(f"coarse {i}" for i in range(20)) + "\n")
    return x["train"], coarse["train"], fine["train"]


@pytest.mark.parametrize("kind", [None, "fine", "coarse"])
def test_cifar_100_has_two_kinds_of_labels(tmp_path: Path, kind: str | None) -> None:
    x, coarse, fine = cifar100(tmp_path)
    data = fitted(tmp_path, (3, 32, 32), 100, Reading(label=kind))
    batch = data.train.batch(np.arange(30), None)
    np.testing.assert_array_equal(batch.inputs["x"], x * np.float32(1 / 255))
    assert batch.targets["y"].tolist() == (coarse if kind == "coarse" else fine).tolist()
    assert (len(data.classes), data.classes[3]) == ((20, "coarse 3") if kind == "coarse" else (100, "fine 3"))
    assert data.notes[0].endswith(f"CIFAR-100, {kind or 'fine'} labels")


def test_labels_that_cifar_does_not_have(tmp_path: Path) -> None:
    cifar100(tmp_path)
    with pytest.raises(UsageError, match="label is 'super': CIFAR-100 has 'fine' and 'coarse' ones"):
        open_data(tmp_path, Reading(label="super"))
    (tmp_path / "c10").mkdir()
    cifar(tmp_path / "c10")
    with pytest.raises(UsageError, match=r"label is 'fine': .* is CIFAR-10, which has one label"):
        open_data(tmp_path / "c10", Reading(label="fine"))


def test_damaged_cifar(tmp_path: Path) -> None:
    written = cifar(tmp_path)
    batch = tmp_path / "data_batch_2.bin"
    good = batch.read_bytes()
    for content, message in (
        (
            good[:-1],
            r"data_batch_2\.bin' has 18437 bytes, a sample takes 3073: it is empty, truncated or no CIFAR",
        ),
        (b"", r"data_batch_2\.bin' has 0 bytes"),
        (b"\x0b" + good[1:], r"data_batch_2\.bin': sample 0 has the label 11, CIFAR has 10"),
    ):
        batch.write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_data(written.path)
    batch.unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_2\.bin: data_batch_3\.bin is there"):
        open_data(written.path)
    (tmp_path / "data_batch_2").write_bytes(b"\x80\x04")
    with pytest.raises(
        DataError, match="data_batch_2' is a pickle, which is never loaded: take the binary version"
    ):
        open_data(written.path)
    (tmp_path / "data_batch_2").unlink()
    batch.write_bytes(good)
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\n")
    with pytest.raises(DataError, match=r"batches\.meta\.txt' names 2 classes, there are 10"):
        open_data(written.path)


def test_cifar_without_test_batch_sets_some_apart(tmp_path: Path) -> None:
    written = cifar(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    data = fitted(written.path, (3, 32, 32), 10)
    assert (len(data.train), len(data.test)) == (27, 3)


# --- SVHN -----------------------------------------------------------------------------------------------------------
def test_the_digit_0_of_svhn_is_stored_as_10(tmp_path: Path) -> None:
    written = svhn(tmp_path)
    stored = scipy.io.loadmat(tmp_path / "train_32x32.mat")
    assert stored["X"].shape == (32, 32, 3, 30)
    assert 10 in stored["y"]
    assert 0 not in stored["y"]
    batch = fitted(written.path, (3, 32, 32), 10).train.batch(np.arange(30), None)
    assert batch.targets["y"].tolist() == [int(label) % 10 for label in stored["y"].ravel()]


def test_one_file_of_svhn_is_split(tmp_path: Path) -> None:
    svhn(tmp_path)
    (tmp_path / "extra_32x32.mat").write_bytes(b"")
    data = fitted(tmp_path / "test_32x32.mat", (3, 32, 32), 10)
    assert (len(data.train), len(data.test)) == (11, 1)
    assert open_data(tmp_path).test.samples == 12
    assert fitted(tmp_path, (3, 32, 32), 10).notes[0].endswith("extra_32x32.mat' is not read")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 4), np.uint8)}, "holds X, and no y: it is no file of SVHN"),
        ({"a": np.zeros(3)}, "holds a, and no X"),
        (
            {"X": np.zeros((4, 32, 32, 3), np.uint8), "y": np.ones((4, 1))},
            r"X is uint8 \[4, 32, 32, 3\] and y \[4, 1\], SVHN has uint8 \[32, 32, 3, N\] and \[N, 1\]",
        ),
        ({"X": np.zeros((32, 32, 3, 4)), "y": np.ones((4, 1))}, "X is double"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((5, 1))}, r"and y \[5, 1\]"),
        (
            {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.array([[1], [2], [0], [3]], np.uint8)},
            "sample 2 has the label 0, SVHN has 1 to 10",
        ),
    ],
)
def test_mat_files_of_something_else(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    scipy.io.savemat(tmp_path / "a.mat", arrays)
    with pytest.raises(DataError, match=message) as caught:
        fitted(tmp_path / "a.mat", (3, 32, 32), 10)
    assert "a.mat" in str(caught.value)


def test_mat_files_that_claim_more_than_can_be_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = {"X": np.zeros((32, 32, 3, 2000), np.uint8), "y": np.ones((2000, 1), np.uint8)}
    scipy.io.savemat(tmp_path / "a.mat", stored, do_compression=True)
    monkeypatch.setattr("onnx_oto.data.archive.MOST_INFLATED", 1 << 20)
    with pytest.raises(
        DataError, match=r"a\.mat' claims 6144000 bytes, \d+ times its size: it is no file of SVHN"
    ):
        open_data(tmp_path / "a.mat")
    monkeypatch.undo()
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(DataError, match=r"a\.mat' takes 6144000 bytes, 1000 bytes of memory are free"):
        open_data(tmp_path / "a.mat")


def test_more_axes_than_numpy_can_have(tmp_path: Path) -> None:
    head = bytes([0, 0, 8, 100]) + struct.pack(">100I", 30, *[1] * 99)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(head + bytes(30))
    with pytest.raises(DataError, match="x_train has 100 axes: store at most 16"):
        fitted(tmp_path, (1,), 10)


def test_every_truncation_of_a_mat_file_is_a_data_error(tmp_path: Path) -> None:
    svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    good = path.read_bytes()
    for length in range(0, len(good) - 1, max(1, len(good) // 40)):
        path.write_bytes(good[:length])
        with pytest.raises(OtoError, match="test_32x32"):
            fitted(path, (3, 32, 32), 10)


def test_paths_that_are_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    for name in ("a.npy", "a.mat", "a.csv", "a.parquet", "a.txt"):
        with pytest.raises(StorageError, match=r"cannot read .*: No such file"):
            open_data(tmp_path / name)
        (tmp_path / name).mkdir()
        with pytest.raises(OtoError, match=name):
            open_data(tmp_path / name)
