"""A small data set of every kind, written byte for byte as its format says, and what is in it."""

from __future__ import annotations

import gzip
import io
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import scipy.io
from PIL import Image

from onnx_oto.data import Reading

Array = np.ndarray
TRAIN, TEST = 30, 12


@dataclass(frozen=True)
class Written:
    """path: what is opened. x, y: by split, as they are stored; without a test split a share is set apart."""

    path: Path
    x: Mapping[str, Array]
    y: Mapping[str, Array] = field(default_factory=dict)
    reading: Reading = Reading()
    classes: tuple[str, ...] = ()


def images(*shape: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {s: rng.integers(0, 256, (n, *shape), np.uint8) for s, n in (("train", TRAIN), ("test", TEST))}


def labels(classes: int, dtype: type = np.int64) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {s: rng.integers(0, classes, n).astype(dtype) for s, n in (("train", TRAIN), ("test", TEST))}


def idx_bytes(array: Array) -> bytes:
    """Return an array as an idx file."""
    code = {"uint8": 8, "int8": 9, "int16": 0xB, "int32": 0xC, "float32": 0xD, "float64": 0xE}[
        str(array.dtype)
    ]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def png(image: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def word_level(words: list[str]) -> str:
    """Return a tokenizer as JSON: every word is a token, 0 is [PAD] and 1 is [UNK]."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1} | {w: i for i, w in enumerate(words, 2)}, "[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(made.to_str())


def npz(folder: Path) -> Written:
    x, y = images(5, 6), labels(4)
    np.savez(folder / "d.npz", x_train=x["train"], y_train=y["train"], x_test=x["test"], y_test=y["test"])
    return Written(folder / "d.npz", x, y)


def npy(folder: Path) -> Written:
    x = images(5, 6)["train"]
    np.save(folder / "x.npy", x)
    return Written(folder / "x.npy", {"train": x})


def npys(folder: Path) -> Written:
    x, y = images(5, 6), labels(4)
    for split in x:
        np.save(folder / f"x_{split}.npy", x[split])
        np.save(folder / f"y_{split}.npy", y[split])
    return Written(folder, x, y)


def idx(folder: Path) -> Written:
    x, y = images(5, 6), labels(10, np.uint8)
    for split, name in (("train", "train"), ("test", "t10k")):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(x[split]))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(y[split])))
    return Written(folder, x, y)


def cifar(folder: Path) -> Written:
    x, y = images(3, 32, 32), labels(10, np.uint8)
    for split, name in (("train", "data_batch_"), ("test", "test_batch")):
        rows = np.concatenate([y[split][:, None], x[split].reshape(-1, 3072)], axis=1)
        parts = np.split(rows, 5) if split == "train" else [rows]
        for number, part in enumerate(parts, 1):
            (folder / f"{name}{number if split == 'train' else ''}.bin").write_bytes(part.tobytes())
    names = tuple(f"class {i}" for i in range(10))
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return Written(folder, x, y, classes=names)


def svhn(folder: Path) -> Written:
    x, y = images(32, 32, 3), labels(10, np.uint8)
    for split in x:
        stored = {"X": x[split].transpose(1, 2, 3, 0), "y": np.where(y[split] == 0, 10, y[split])[:, None]}
        scipy.io.savemat(folder / f"{split}_32x32.mat", stored, do_compression=True)
    return Written(folder, x, y, classes=tuple("0123456789"))


def images_(folder: Path) -> Written:
    """Images in folders, sorted by class as they are found."""
    x, y = images(5, 6, 3), {split: np.sort(each) for split, each in labels(3).items()}
    for split in x:
        for i, (image, label) in enumerate(zip(x[split], y[split], strict=True)):
            place = folder / split / "abc"[label] / f"{i:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(png(image))
    return Written(folder, x, y, classes=("a", "b", "c"))


def table(folder: Path) -> Written:
    """Images in bytes as Hugging Face writes them, labels with the names of classes, several files."""
    x, y = images(6, 5, 3), labels(3)
    names = ("ant", "bee", "cat")
    told = '{"info": {"features": {"label": {"names": ["ant", "bee", "cat"], "_type": "ClassLabel"}}}}'
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in x:
        cells = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(x[split])]
        made = pa.table({"image": pa.array(cells, kind), "label": y[split]})
        made = made.replace_schema_metadata({"huggingface": told})
        for number, part in enumerate((made.slice(0, 7), made.slice(7))):
            place = folder / f"{split}-{number:05}-of-00002.parquet"
            pa.parquet.write_table(part, place, row_group_size=5)
    return Written(folder, x, y, classes=names)


def csv(folder: Path) -> Written:
    """Numbers and words, one file."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 9, TRAIN), rng.standard_normal(TRAIN)
    words = np.array(["dog", "ant", "cat"])[rng.integers(0, 3, TRAIN)]
    pa.csv.write_csv(pa.table({"a": a, "label": words, "b": b}), folder / "d.csv")
    y = np.searchsorted(["ant", "cat", "dog"], words)
    return Written(
        folder / "d.csv", {"train": np.stack([a, b], 1)}, {"train": y}, classes=("ant", "cat", "dog")
    )


def text(folder: Path) -> Written:
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(20)]
    (folder / "tokenizer.json").write_text(word_level(words))
    x, y = {}, labels(3)
    for split, count in (("train", TRAIN), ("test", TEST)):
        numbers = [rng.integers(0, 20, rng.integers(1, 8)) for _ in range(count)]
        numbers[0] = np.arange(7)
        lines = [
            f"{label}\t" + " ".join(words[i] for i in row)
            for row, label in zip(numbers, y[split], strict=True)
        ]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
        x[split] = np.array([np.pad(row + 2, (0, 7 - len(row))) for row in numbers])
    return Written(folder, x, y, Reading(tokenizer=folder / "tokenizer.json"))


def function(folder: Path) -> Written:
    """The name of the module is new every time: modules are imported once."""
    made = npz(folder)
    name = f"made_{abs(hash(str(folder)))}"
    (folder / f"{name}.py").write_text(
        f"import numpy as np\ndef load():\n    return dict(np.load({str(made.path)!r}))\n"
    )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return Written(Path(f"{name}:load"), made.x, made.y)


KINDS: dict[str, Callable[[Path], Written]] = {
    each.__name__.strip("_"): each
    for each in (npz, npy, npys, idx, cifar, svhn, images_, table, csv, text, function)
}
