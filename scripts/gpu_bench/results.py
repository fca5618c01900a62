"""The lines of results.jsonl and the table of them."""

import json
import os
import time

HEAD = (
    "part      job      model batch system                     rate unit     "
    "x peer  peak  GPU MiB  s/step  run s"
)


class Results:
    """Lines of this call, and of earlier calls for other parts."""

    def __init__(self, folder, card, budget):
        self.folder, self.card, self.budget, self.begun = folder, card, budget, time.monotonic()
        self.path, self.failed, self.skipped, self.part = folder / "results.jsonl", [], [], None
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def left(self):
        """Returns the seconds until no command begins."""
        return self.budget - (time.monotonic() - self.begun)

    def begin(self, part):
        """Drops the earlier lines of a part; false, with a note, if there is no time for it."""
        self.part = part
        if self.left() < 5:
            self.skip("all", "no time left")
            return False
        self.rows = [row for row in self.rows if row["part"] != part]
        self.save()
        say(f"\n== {part} ({self.left():.0f} s left)")
        return True

    def save(self):
        whole = self.path.with_suffix(".part")
        whole.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(whole, self.path)

    def add(self, row):
        self.rows.append({"part": self.part, **row, "card": self.card})
        self.save()
        say(self.line(self.rows[-1]))

    def fail(self, what, why):
        self.failed.append(f"{self.part}: {what}: {why}")
        say(f"FAILED {self.failed[-1]}")

    def skip(self, what, why):
        self.skipped.append(f"{self.part}: {what}: {why}")
        say(f"skipped {self.skipped[-1]}")

    def line(self, row):
        """Returns the table's line of a result; the ratio is to the peer's rate at the same work."""
        if "text" in row:
            return f"{row['part']:9} {row['text']}"
        for field, unit, size in (
            ("pairs_per_s", "pairs/s", 1),
            ("tokens_per_s", "tokens/s", 1),
            ("gflop_per_s", "TFLOP/s", 1000),
        ):
            if field in row:
                break
        same = lambda other: all(
            other.get(key) == row.get(key) for key in ("job", "model", "batch", "device", "card")
        )
        peers = [other for other in self.rows if same(other) and other.get("peer")]
        times = row[field] / peers[-1][field] if peers else None
        cells = [
            f"{row['part']:9} {row.get('job', row.get('dtype', '')):8} {row['model']:5}",
            f"{shown(row.get('batch'), 'd'):>5} {row['system']:20} {row[field] / size:10.1f} {unit:8}",
            f"{shown(times, '.2f'):>6} {shown(row.get('share_of_gemm_peak'), '.3f'):>5}",
            f"{shown(row.get('peak_gpu_mib'), 'd'):>8} {shown(row.get('s_per_step'), '.3f'):>7}",
            f"{row['run_s']:6.1f}",
        ]
        return " ".join(cells)

    def table(self):
        say(f"\n== {self.card}")
        say(HEAD)
        for row in self.rows:
            say(self.line(row))
        if others := sorted({row["card"] for row in self.rows} - {self.card}):
            say(f"some lines are of earlier calls on another machine: {', '.join(others)}")
        for what, notes in (("failed", self.failed), ("skipped", self.skipped)):
            for note in notes[:20]:
                say(f"{what}: {note[:300]}")
        say(f"{time.monotonic() - self.begun:.0f} s; all of it is in {self.folder}")


def shown(value, form):
    return "-" if value is None else format(value, form)


def say(text):
    print(text, flush=True)
