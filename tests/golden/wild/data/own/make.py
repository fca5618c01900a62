"""Makes the binary files of this folder: python3 make.py (needs pyarrow and zstandard or the zstd command)."""
import gzip
import io
import json
import struct
import tarfile
from decimal import Decimal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

ROWS = [{"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def table(**columns):
    return pa.table({key: [row[key] for row in ROWS] for key in ROWS[0]} | columns)


pq.write_table(
    table(margin=pa.array([Decimal("0.50"), Decimal("1.25"), Decimal("12.00")], pa.decimal128(6, 2))),
    "decimals.parquet",
)
pq.write_table(table(margin=pa.array([0.5, float("nan"), float("-inf")], pa.float32())), "nan_margin.parquet")
pq.write_table(table(noise=pa.array([0.5, float("nan"), None], pa.float64())), "nan_unread.parquet")
pyarrow.feather.write_feather(table(), "feather.arrow", compression="uncompressed")
pyarrow.feather.write_feather(table(), "packed.arrow", compression="lz4")
with tarfile.open("tar.jsonl.gz", "w:gz") as tar:
    info = tarfile.TarInfo("pairs.jsonl")
    info.size = len(LINES)
    tar.addfile(info, io.BytesIO(LINES))
with open("nested.jsonl.gz", "wb") as out:
    out.write(gzip.compress(gzip.compress(LINES, mtime=0), mtime=0) + bytes(512))
with open("float.arrow", "wb") as out, pa.ipc.new_stream(out, table(margin=pa.array([1.5, float("nan"), 2.0])).schema) as w:
    w.write_table(table(margin=pa.array([1.5, float("nan"), 2.0])))
with open("huge.arrow", "wb") as out:
    # A stream whose first message has a length beyond the file's.
    out.write(b"\xff" * 4 + struct.pack("<i", 1 << 30) + bytes(16))
