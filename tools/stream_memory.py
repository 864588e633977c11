"""How much memory it takes to read data that are larger: every kind that can be large, in batches of a shuffled epoch.

    python tools/stream_memory.py --size 1.5GB --times 3

makes images [3, 32, 32] of so many bytes on disk (npy, compressed npz, parquet with tensors, parquet with PNG files in
it), and reads all of them in a process of its own that may not have more than a `--times`-th of that in private memory
(RLIMIT_DATA). Resident memory is polled: "private" is what the process alone holds, "mapped" are pages of files, which
the system takes back whenever something else needs the room.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

SHAPE = (3, 32, 32)
_LOT = 4096
"""How many samples are made together."""


def lots(count: int) -> Iterator[np.ndarray]:
    """Yield images uint8 [n, 3, 32, 32], `count` of them in all: 16 levels, so that they compress a little."""
    rng = np.random.default_rng(0)
    for start in range(0, count, _LOT):
        yield rng.integers(0, 16, (min(_LOT, count - start), *SHAPE), np.uint8) * np.uint8(16)


def _labels(start: int, count: int) -> np.ndarray:
    return np.arange(start, start + count) % 10


def write_npy(folder: Path, count: int) -> Path:
    """Write a folder of npy files."""
    x = np.lib.format.open_memmap(folder / "x_train.npy", "w+", np.uint8, (count, *SHAPE))
    for index, lot in enumerate(lots(count)):
        x[index * _LOT : index * _LOT + len(lot)] = lot
    np.save(folder / "y_train.npy", _labels(0, count))
    return folder


def write_npz(folder: Path, count: int) -> Path:
    """Write a compressed npz file."""
    with zipfile.ZipFile(folder / "d.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            told = {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)}
            np.lib.format.write_array_header_1_0(member, told)
            for lot in lots(count):
                member.write(lot.tobytes())
        with archive.open("y_train.npy", "w") as member:
            np.lib.format.write_array(member, _labels(0, count))
    return folder / "d.npz"


def _write_parquet(folder: Path, count: int, column: Callable[[np.ndarray], object]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for index, lot in enumerate(lots(count)):
        table = pa.table({"image": column(lot), "label": _labels(index * _LOT, len(lot))})
        writer = writer or pq.ParquetWriter(folder / "d.parquet", table.schema, compression="snappy")
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return folder / "d.parquet"


def write_tensors(folder: Path, count: int) -> Path:
    """Write a parquet file with a column of tensors."""
    import pyarrow as pa

    return _write_parquet(folder, count, pa.FixedShapeTensorArray.from_numpy_ndarray)


def write_images(folder: Path, count: int) -> Path:
    """Write a parquet file with a column of encoded images, as Hugging Face's `datasets` do."""
    from PIL import Image

    def encoded(lot: np.ndarray) -> list[dict[str, object]]:
        cells = []
        for image in lot:
            buffer = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG", compress_level=1)
            cells.append({"bytes": buffer.getvalue(), "path": None})
        return cells

    return _write_parquet(folder, count, encoded)


KINDS: dict[str, Callable[[Path, int], Path]] = {
    "npy": write_npy,
    "npz": write_npz,
    "parquet-tensors": write_tensors,
    "parquet-images": write_images,
}


class Poll:
    """The most resident memory, in bytes, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.private = self.mapped = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        process = psutil.Process()
        while not self._ends.wait(0.02):
            info = process.memory_info()
            self.private = max(self.private, info.rss - info.shared)
            self.mapped = max(self.mapped, info.shared)

    def end(self) -> None:
        """Look no more."""
        self._ends.set()
        self._thread.join()


def read(path: Path, cache: Path, limit: int) -> dict[str, float]:
    """Read a shuffled epoch of batches in this process, with at most `limit` bytes more of private memory than now."""
    import resource

    from onnx_oto.data import Input, Labels, Reading, archive, batches, open_data, prefetched

    with open("/proc/self/status", encoding="ascii") as status:
        (now,) = (int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    archive.MAPPED_BYTES = min(archive.MAPPED_BYTES, limit // 2)  # small data sets count as large, too
    resource.setrlimit(resource.RLIMIT_DATA, (now + limit, now + limit))
    poll, begin = Poll(), time.perf_counter()
    opening = open_data(path, Reading(cache=cache))
    data = opening.fit({"x": Input(SHAPE, np.dtype(np.float32))}, {"y": Labels(classes=10)})
    ready, count = time.perf_counter(), 0
    for batch in prefetched(batches(data.train, 64, seed=0, epoch=0)):
        assert np.array_equal(batch.targets["y"], batch.rows % 10)
        count += len(batch.rows)
    poll.end()
    seconds = time.perf_counter() - ready
    return {
        "private": poll.private,
        "mapped": poll.mapped,
        "opening": ready - begin,
        "rate": count * float(np.prod(SHAPE)) / seconds / 1e6,
    }


def measure(kind: str, size: float, times: float) -> None:
    """Make a data set, read it twice in processes of their own, print a line each, and remove it."""
    with tempfile.TemporaryDirectory(prefix="stream-memory-") as place:
        folder = Path(place, "data")
        folder.mkdir()
        count = round(size / np.prod(SHAPE))
        path = KINDS[kind](folder, count)
        stored = sum(file.stat().st_size for file in folder.iterdir())
        for turn in ("first", "again"):
            command = [sys.executable, __file__, "--read", str(path), "--cache", f"{place}/cache"]
            done = subprocess.run(
                [*command, "--limit", str(int(size / times))], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{kind}, {turn}: {done.stderr.strip().splitlines()[-1]}")
            found = json.loads(done.stdout)
            print(
                f"{kind:16} {turn:6} {size / 1e6:8.0f} MB of samples ({stored / 1e6:.0f} on disk), limit "
                f"{size / times / 1e6:.0f} MB: private {found['private'] / 1e6:6.0f} MB, mapped "
                f"{found['mapped'] / 1e6:6.0f} MB; opened in {found['opening']:.1f} s, {found['rate']:.0f} MB/s",
                flush=True,
            )


def main() -> None:
    """Measure, or be the process that reads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kind", choices=KINDS, action="append", help="(repeatable; all)")
    parser.add_argument("--size", default="1.5GB", help="bytes of samples (1.5GB)")
    parser.add_argument("--times", type=float, default=3.0, help="how many times the memory that is left (3)")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        print(json.dumps(read(given.read, given.cache, given.limit)))
        return
    from onnx_oto.settings.memory import memory

    for kind in given.kind or KINDS:
        measure(kind, memory(given.size), given.times)


if __name__ == "__main__":
    main()
