# SPDX-License-Identifier: MIT
"""Slices by turns, medians, and the report: as a table, as Markdown, as JSON."""

import gc
import json
import math
import os
import platform
import statistics
import time

DASH = "-"
KEYS = 100_000  # so many, at least, for slices of several milliseconds: in shorter ones all caches would be cold


def loop(statement, count=True, unroll=1, before="", after="", **names):
    """A function of a list of keys that runs `statement` for each, and gives the nanoseconds that all took.

    The statement sees the key as `k`, with `count` a number that is new each time as `v`, and `names`.
    """
    head = "for v, k in enumerate(_keys, _from)" if count else "for k in _keys"
    lines = [f"def run(_keys, _from, _clock, {', '.join(names)}):", " _start = _clock()"]
    lines += [f" {before}"] if before else []
    lines += [f" {head}:"] + [f"  {statement}"] * unroll
    lines += [f" {after}"] if after else []
    lines += [" return _clock() - _start"]
    space = {}
    exec("\n".join(lines), space)
    run, clock, serial = space["run"], time.perf_counter_ns, [1]

    def slice_of(keys):
        serial[0] += len(keys)
        return run(keys, serial[0], clock, **names) / unroll

    return slice_of


class Case:
    """One figure of one store: `run(keys)` gives the nanoseconds that it took for all of them.

    It is given so many keys at a time as a slice lasts, and at most `most`; or, if it is to have them `whole`, all.
    """

    def __init__(self, store, variant, run, keys, keeps, target=None, scale=1, whole=False, most=KEYS):
        self.store, self.variant, self.run, self.keys, self.keeps = store, variant, run, keys, keeps
        self.target, self.scale, self.samples = target, scale, []
        self.count, self.place, self.most = len(keys) if whole else 1, 0, most
        self.warm = 0  # operations before the clock starts: the caches belong to the other cases by then
        if not whole:
            self.keys = [*keys] * max(1, KEYS // len(keys))

    def slice(self):
        if self.place + self.count > len(self.keys):
            self.place = 0
        keys = self.keys[self.place : self.place + self.count]
        self.place += self.count
        if self.warm > 0:
            self.run(keys[: self.warm])
        return self.run(keys) / len(keys)

    def calibrate(self, seconds):
        """So many operations a slice that it takes about so long."""
        self.slice()
        for _ in range(8):
            each = self.slice()
            count = max(1, min(len(self.keys), self.most, int(seconds * 1e9 / max(each, 1))))
            if count <= self.count * 1.5:
                break
            self.count = min(count, self.count * 50)
        if each < 20_000 and self.count < len(self.keys):
            self.warm = self.count // 4


def by_turns(cases, options):
    """Run all cases by turns, in short slices."""
    for case in cases:
        case.calibrate(options.slice)
    gc.collect()
    gc.disable()
    for _ in range(options.rounds):
        for case in cases:
            case.samples.append(case.slice())
    gc.enable()


class Report:
    def __init__(self, options):
        self.options, self.rows, self.notes = options, [], []

    def add(self, operation, store, variant, samples, unit, keeps, target=None):
        """A figure from samples; None: the store is not installed."""
        row = {"operation": operation, "store": store, "variant": variant, "unit": unit, "keeps": keeps}
        if samples is None:
            row["missing"] = True
        else:
            row["value"] = statistics.median(samples)
            row["least"] = min(samples)
            row["mean"] = statistics.fmean(samples)
        if target is not None:
            row["at_most"] = target
            row["met"] = samples is not None and row["value"] <= target
        self.rows.append(row)
        if not self.options.markdown:
            self.show(row)

    def cases(self, operation, cases, missing=(), unit="us"):
        """Measure cases and enter them."""
        by_turns(cases, self.options)
        divide = {"us": 1e3, "ns": 1, "ms": 1e6}[unit]
        for case in cases:
            samples = [sample / case.scale / divide for sample in case.samples]
            self.add(operation, case.store, case.variant, samples, unit, case.keeps, case.target)
        for store in missing:
            self.add(operation, store, "", None, unit, "")

    def show(self, row):
        name = ", ".join(part for part in (row["operation"], row["variant"]) if part) + ": " + row["store"]
        if row.get("missing"):
            print(f"{'python':7} {name:78} {'not installed':>10}", flush=True)
            return
        target = f"<= {number(row['at_most'])}  {verdict(row)}" if "at_most" in row else ""
        more = f"(least {number(row['least'])}, mean {number(row['mean'])}; survives: {row['keeps'] or DASH})"
        print(f"{'python':7} {name:78} {number(row['value']):>10} {row['unit']:5} {more} {target}".rstrip(), flush=True)

    def markdown(self):
        """One table for each operation: stores below each other, variants beside each other."""
        for operation in dict.fromkeys(row["operation"] for row in self.rows):
            rows = [row for row in self.rows if row["operation"] == operation]
            variants = list(dict.fromkeys(row["variant"] for row in rows if not row.get("missing"))) or [""]
            unit = rows[0]["unit"]
            print(f"**{operation}**, {unit}: median (least, mean)\n")
            print("| | survives | " + " | ".join(variant or unit for variant in variants) + " |")
            print("|---|---|" + "---:|" * len(variants))
            for store in dict.fromkeys(row["store"] for row in rows):
                found = {row["variant"]: row for row in rows if row["store"] == store}
                keeps = next((row["keeps"] for row in found.values() if row["keeps"]), DASH)
                cells = [cell(found.get(variant), found) for variant in variants]
                print(f"| {store} | {keeps} | " + " | ".join(cells) + " |")
            print()
        for note in self.notes:
            print(f"- {note}")

    def finish(self):
        if self.options.markdown:
            self.markdown()
        else:
            for note in self.notes:
                print(f"  {note}")
        if self.options.json:
            report = {
                "bench": "python",
                "python": platform.python_version(),
                "kernel": " ".join(os.uname()[i] for i in (0, 2, 4)),
                "cpus": os.cpu_count(),
                "load": os.getloadavg()[0],
                "repeat": self.options.rounds,
                "rows": self.rows,
                "notes": self.notes,
            }
            with open(self.options.json, "w") as file:
                json.dump(report, file, indent=1)
                file.write("\n")


def verdict(row):
    return "met" if row["met"] else "MISSED"


def cell(row, found):
    if row is None or row.get("missing"):
        return "not installed" if any(row.get("missing") for row in found.values()) else ""
    target = f" **≤ {number(row['at_most'])} {verdict(row)}**" if "at_most" in row else ""
    return f"{number(row['value'])} ({number(row['least'])}, {number(row['mean'])}){target}"


def number(value):
    """Three significant digits."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(digits, 0), 3)}f}"
