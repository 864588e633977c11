"""Files of tables, read some rows at a time: parquet and CSV, by pyarrow. One class for both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx_oto.data.extras import extra
from onnx_oto.data.files import reading_file
from onnx_oto.errors import DataError, one_line

PARQUET, CSV = (".parquet", ".pq"), (".csv",)
_ROWS = 1024
"""How many rows of a parquet file are decoded together, at most those of one row group."""
_BLOCK = 1 << 20
"""How many bytes of a CSV file are read together."""
_WRONG_VALUE = re.compile(r"In CSV column #(\d+).*?: (.*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class TableFile:
    """A file with named columns of one length. It is never held in memory as a whole."""

    path: Path

    @property
    def is_csv(self) -> bool:
        """Whether the types of columns are guessed from text."""
        return self.path.suffix.lower() in CSV

    @cached_property
    def _parquet(self) -> Any:
        parquet = extra("pyarrow.parquet", f"to read '{self.path}'")
        with reading_file(self.path), _told(self.path):
            return parquet.ParquetFile(self.path, pre_buffer=False)

    @cached_property
    def _looked(self) -> tuple[Any, int]:
        """The schema, and how many rows there are; of a CSV file every row is looked at for that."""
        if not self.is_csv:
            with _told(self.path):
                found = self._parquet.schema_arrow, int(self._parquet.metadata.num_rows)
        else:
            found = self._look_at_csv()
        twice = next((name for name in found[0].names if found[0].names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"'{self.path}' has two columns '{twice}': rename one of them")
        return found

    @property
    def schema(self) -> Any:
        """The columns and their types."""
        return self._looked[0]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._looked[1]

    @property
    def size(self) -> int:
        """How many bytes the columns take, roughly, when they are unpacked."""
        if self.is_csv:
            return self.path.stat().st_size
        groups = self._parquet.metadata
        return sum(groups.row_group(index).total_byte_size for index in range(groups.num_row_groups))

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield record batches of some columns, in the order of the rows. Raises DataError for damage."""
        if self.is_csv:
            known = {each.name: each.type for each in self.schema}
            with _told(self.path):
                yield from self._csv(known, columns)
            return
        with _told(self.path):
            yield from self._parquet.iter_batches(_ROWS, columns=list(columns))

    def class_names(self, column: str) -> tuple[str, ...]:
        """Return the names of classes that Hugging Face's `datasets` have written down for a column, () for none."""
        try:
            told = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            return tuple(str(name) for name in told["info"]["features"][column]["names"])
        except (ValueError, KeyError, TypeError):
            return ()

    def _look_at_csv(self) -> tuple[Any, int]:
        """Return the types that hold all rows, and their number.

        pyarrow guesses from the first rows: whole numbers that end further on make it start again, with floats.
        """
        arrow = extra("pyarrow", f"to read '{self.path}'")
        with reading_file(self.path) as file:
            if not file.read(1):
                raise DataError(
                    f"'{self.path}' is empty (0 bytes): write names of columns, and rows below them"
                )
        floats: dict[str, Any] = {}
        while True:
            with _told(self.path):
                reader = self._csv(floats, None)
                schema, rows = reader.schema, 0
                try:
                    for batch in reader:
                        rows += batch.num_rows
                    return schema, rows
                except arrow.ArrowInvalid as error:
                    match = _WRONG_VALUE.search(str(error))
                    if match is None:
                        raise
                    column = schema.field(int(match[1]))
                    if not arrow.types.is_integer(column.type) or column.name in floats:
                        raise DataError(
                            f"'{self.path}', column '{column.name}': {one_line_of(match[2])}"
                        ) from None
                    floats[column.name] = arrow.float64()

    def _csv(self, types: dict[str, Any], columns: Sequence[str] | None) -> Any:
        csv = extra("pyarrow.csv", f"to read '{self.path}'")
        convert = csv.ConvertOptions(
            column_types=types, include_columns=None if columns is None else list(columns)
        )
        return csv.open_csv(
            self.path, read_options=csv.ReadOptions(block_size=_BLOCK), convert_options=convert
        )


def one_line_of(text: str) -> str:
    """Return what pyarrow says of a value, on one line."""
    return " ".join(text.split())[:200]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a DataError with its name."""
    arrow = extra("pyarrow", f"to read '{path}'")
    try:
        yield
    except MemoryError as error:
        raise DataError(
            f"'{path}' needs more memory than there is ({one_line(error)}): write it with smaller row groups"
        ) from None
    except (arrow.ArrowException, OSError, UnicodeError) as error:
        what = "CSV" if path.suffix.lower() in CSV else "parquet"
        raise DataError(
            f"'{path}' is no {what} file, or a damaged one ({one_line(error)}): write it again"
        ) from None
