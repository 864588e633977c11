"""Files of data, opened: what goes wrong with one is told with its name."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from onnx_oto.errors import DataError, StorageError, one_line
from onnx_oto.model.files.loading import open_regular


@contextmanager
def reading_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file to read. Raises StorageError, in the block too, and DataError where memory is short."""
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"'{path}' takes more memory than there is: store fewer samples") from None


@contextmanager
def inflating(path: Path) -> Iterator[BinaryIO]:
    """Open a gzip file, or another one as it is. Raises StorageError and, for a damaged file, DataError."""
    with reading_file(path) as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            yield file
            return
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as inflated:
                yield inflated  # type: ignore[misc]
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(
                f"'{path}' is a damaged or truncated gzip file ({one_line(error)}): copy it again"
            ) from None
