"""A Parquet file with rows added or left out: the same schema, compression and size of its parts."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.planting.edit import Edited


def write(source: Path, target: Path, rows: Sequence[Edited], numbering: Sequence[str]) -> None:
    """Writes the rows with the source's schema. `numbering` are the columns that number the rows;
    all else of the source's own rows is taken over as it is."""
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(source) as file:
        table, metadata = file.read(), file.metadata
    made = [json.loads(row.line) for row in rows if row.place is None]
    added = _made(lambda: pyarrow.Table.from_pylist(made, schema=table.schema), source)
    result = pyarrow.concat_tables([table, added]).take(_places(rows, table.num_rows))
    for key in numbering:
        numbers, kind = [json.loads(row.line)[key] for row in rows], table.schema.field(key)
        column = _made(partial(pyarrow.array, numbers, kind.type), source)
        result = result.set_column(table.schema.get_field_index(key), kind, column)
    target.touch(0o600, exist_ok=False)
    pyarrow.parquet.write_table(
        result,
        target,
        row_group_size=max(1, metadata.row_group(0).num_rows),
        compression=_compression(metadata),
    )


def _places(rows: Sequence[Edited], before: int) -> list[int]:
    """The place of each row in the source's table followed by what is added."""
    added = iter(range(before, before + len(rows)))
    return [next(added) if row.place is None else row.place for row in rows]


def _made(make: Callable[[], Any], source: Path) -> Any:
    """What `make` returns. Raises UsageError where a value does not fit the type of its column."""
    import pyarrow

    try:
        return make()
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
        raise UsageError(
            str(source),
            "columns whose values can be written again",
            "a column of another type",
            "convert the file to JSONL, plant, and convert back",
        ) from None


def _compression(metadata: Any) -> dict[str, str]:
    """The compression of each column."""
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {
        column.path_in_schema: "NONE" if column.compression == "UNCOMPRESSED" else column.compression
        for column in columns
    }
