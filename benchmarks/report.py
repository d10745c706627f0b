"""Fills docs/performance.md from results: `python -m benchmarks.report .local/bench [--check]`.

The page holds its words; between `<!-- figures: name -->` and `<!-- end -->` stands a table that is made here from the
JSON files of `make bench`. A table of which the folder has no results stays as it is, and so do the lines of
`conditions` that speak of others. `--check` only tells whether anything is missing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.crowd import FOLDER
from benchmarks.kit import ROOT, Result, shown

PAGE = ROOT / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
MISSING = "not measured"
HEAD = ("", "target", "measured", "to its limit", "CPU, µs each")

Measured = dict[str, Any]  # one results file


class Found:
    """The results files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
        self.missing: list[str] = []

    def arm(self, name: str, arm: str = "") -> Result | None:
        """The medians of an arm (the first one if none is named); None, and noted as missing, if it is not there."""
        arms: dict[str, Result] = self.files.get(name, {}).get("medians", {})
        row = arms.get(arm) if arm else next(iter(arms.values()), None)
        if row is None:
            self.missing.append(f"{name}: {arm or 'anything'}")
        return row

    def about(self, name: str, key: str) -> Any:
        """A word about the run, such as its machine."""
        return self.files.get(name, {}).get(key, MISSING)


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(shown(each) for each in row) + " |" for row in lines) + "\n"


def by_process(row: Result) -> str:
    """CPU in all, then by process, without those that used next to nothing."""
    cpu = row.get("cpu_us") or {}
    parts = [f"{name} {shown(value)}" for name, value in cpu.items() if name != "all" and value >= 0.005 * cpu["all"]]
    return f"**{shown(cpu.get('all'))}**: " + ", ".join(parts) if cpu else "–"


def each_ms(found: Result | None) -> str:
    """p50 / p95 / p99 of a nested result."""
    if not found:
        return "–"
    return " / ".join(shown(found.get(name)) for name in ("p50", "p95", "p99") if name in found) + " ms"


# --- the tables, one for each line of the promise ---------------------------------------------------------------------


PACED = {
    "paced at two thirds of 15,000": "p95 ≤ 100 ms, p99 ≤ 250 ms at two thirds",
    "paced at two thirds of it": "stated",
}


def bulk(found: Found) -> str:
    rows: list[tuple[Any, ...]] = []
    for payload, target in (("minimal", "15,000/s for 10 min, goal 25,000; CPU ≤ 120 µs, goal 80"), ("full", "stated")):
        flat = found.arm(f"bulk-{payload}", f"{payload}, flat out")
        if flat:
            measured = (
                f"**{shown(flat['per_second'])}/s** over {shown(flat['seconds'])} s, {shown(flat['decided'])} decided;"
                f" slowest ten seconds {shown(flat['slowest_ten_seconds'])}/s; {flat['alerts']} % alerts"
            )
            ratio = f"{flat['ratio_to_copy_all']} of COPY of all five tables ({shown(flat['copy_all_per_second'])}/s)"
            rows.append((f"{payload} payload, flat out", target, measured, ratio, by_process(flat)))
        for name, target in PACED.items():
            paced = found.files.get(f"bulk-{payload}", {}).get("medians", {}).get(f"{payload}, {name}")
            if paced:
                delay = each_ms(paced["commit_to_decision_ms"])
                text = f"commit to decision {delay} at {shown(paced['per_second'])}/s ({paced['alerts']} % alerts)"
                rows.append((f"{payload} payload, {name}", target, text, "–", by_process(paced)))
    return table(HEAD, rows) if rows else f"{MISSING}\n"


def decisions(found: Found) -> str:
    rows: list[tuple[Any, ...]] = []
    targets = {1: "p50 ≤ 5, p95 ≤ 12, p99 ≤ 30 ms", 8: "–", 16: "≥ 800/s, p95 ≤ 40 ms", 32: "p99 ≤ 95 ms"}
    for payload in ("minimal", "full"):
        for at_once, target in targets.items():
            row = found.arm("decisions", f"{payload}, {at_once} at once, judged")
            if row:
                times = " / ".join(shown(row[f"{name}_ms"]) for name in ("p50", "p95", "p99"))
                ratio = f"p50 {row.get('p50_to_kept')}, CPU {row.get('cpu_to_kept')} of kept only (≤ 1.6)"
                measured = f"{times} ms, **{shown(row['per_second'])}/s**"
                rows.append((f"{payload}, {at_once} at once", target, measured, ratio, by_process(row)))
    return table(HEAD, rows) if rows else f"{MISSING}\n"


def decisions_beside(found: Found) -> str:
    """Kept only, by the proxy, compared: the other arms of the same turns."""
    rows = []
    for arm, row in found.files.get("decisions", {}).get("medians", {}).items():
        if not arm.endswith(", judged"):
            times = " / ".join(shown(row[f"{name}_ms"]) for name in ("p50", "p95", "p99"))
            rows.append((arm, times, row["per_second"], by_process(row)))
    return table(("arm", "p50 / p95 / p99, ms", "per second", "CPU, µs each"), rows) if rows else f"{MISSING}\n"


def drain(found: Found) -> str:
    arms = found.files.get("drain", {}).get("medians", {})
    if not arms:
        found.missing.append("drain")
        return f"{MISSING}\n"
    first = next(iter(arms.values()))["per_second"]
    rows = []
    for arm, row in arms.items():
        measured = f"**{shown(row['per_second'])}/s**, {round(row['per_second'] / first, 3)} of the first line"
        ratio = (
            f"{row['ratio_to_copy_kept']} of COPY of key, payment, detail ({shown(row['copy_kept_per_second'])}/s);"
            f" {row['ratio_to_copy_judged']} of decision and log ({shown(row['copy_judged_per_second'])}/s);"
            f" {row['ratio_to_copy_all']} of all five ({shown(row['copy_all_per_second'])}/s)"
        )
        target = "as fast as COPY of the same rows; ≥ 0.8 of the first line at 10 million"
        rows.append((arm, target, measured, ratio, by_process(row)))
    return table(HEAD, rows)


def restart(found: Found) -> str:
    row = found.arm("restart")
    if not row:
        return f"{MISSING}\n"
    measured = f"median {row['p50_seconds']} s, longest **{row['max_seconds']} s** ({row['all_seconds']})"
    ratio = f"a bare process takes {found.about('restart', 'bare_start_seconds')} s"
    return table(HEAD, [("kill -9 of the scorer at 5,000/s", "≤ 10 s", measured, ratio, by_process(row))])


def screen(found: Found) -> str:
    row = found.arm("screen")
    if not row:
        return f"{MISSING}\n"
    measured = f"**{each_ms(row['screen_ms'])}**, {row['missed']} of {shown(row['alerts'])} alerts missed"
    ratio = f"the answer itself: {each_ms(row['answer_ms'])}"
    rows: list[tuple[Any, ...]] = [("200 payments/s", "p50 ≤ 60, p95 ≤ 200 ms", measured, ratio, by_process(row))]
    for arm, beside in found.files["screen"]["medians"].items():
        if "analysts" not in arm:
            continue
        told = [f"{words} {each_ms(beside[key])}" for key, words in HEARD.items() if key in beside]
        missed = sum(beside.get(f"{who}_missed", 0) for who in ("analysts", "browser"))
        ratio = f"the answer itself: {each_ms(beside['answer_ms'])}"
        target = "announced in the browser: p95 ≤ 500 ms"
        rows.append((arm, target, f"{'; '.join(told)}; {shown(missed)} missed", ratio, by_process(beside)))
    return table(HEAD, rows)


HEARD = {
    "analysts_ms": "sockets",
    "browser_message_ms": "the browser's own socket",
    "browser_ms": "**announced in the browser**",
}


PROMISES = {
    "queue": "p95 ≤ 300 ms, ≤ 150 kB for 50 rows",
    "case page": "p95 ≤ 400 ms",
    "search": "p95 ≤ 500 ms",
    "links": "≤ 1 s for 150 nodes",
    "entity page": "–",
    "other pages": "–",
    "shell": "the limit",
}


def desk(found: Found) -> str:
    """Each promise over all kinds of pages that belong to it."""
    rows = []
    for part, target in PROMISES.items():
        row = found.arm("desk", part)
        if row:
            measured = f"**{each_ms(row['ms'])}**, {shown(row['kb'])} kB at most; {shown(row['pages'])} pages"
            ratio = f"{shown(row['p50_to_shell'])} of the shell alone (p50)"
            rows.append((part, target, measured, ratio, row["slowest"]))
    return table(("", "target", "measured", "to its limit", "slowest kind"), rows) if rows else f"{MISSING}\n"


def desk_pages(found: Found) -> str:
    """Every kind of page."""
    rows = []
    for arm, row in found.files.get("desk", {}).get("medians", {}).items():
        part, separator, name = arm.partition(": ")
        if separator:
            rows.append((name, part, *(row["ms"][each] for each in ("p50", "p95", "p99")), row["kb"]))
    return table(("page", "part", "p50, ms", "p95", "p99", "kB"), rows) if rows else f"{MISSING}\n"


def epoch(found: Found) -> str:
    rows: list[tuple[Any, ...]] = []
    row = found.arm("epoch")
    if row:
        measured = (
            f"**{shown(row['seconds'])} s** for {shown(row['payments'])} payments, {shown(row['epoch_labels'])} labels;"
            f" peak {shown(row['peak_mib'])} MiB; the switch {shown(row['switch_seconds'])} s"
        )
        ratio = f"{row['ratio_to_reading']} times reading the same rows ({shown(row['read_alone_seconds'])} s)"
        rows.append(("epoch of ten million", "< 300 s", measured, ratio, by_process(row)))
    row = found.arm("history", "all three")
    if row:
        ratio = f"{row['ratio_to_copying']} times one table's copy ({row['copied_alone_seconds']} s)"
        name = "a million of a foreign CSV, with epoch"
        rows.append((name, "–", f"{shown(row['seconds'])} s", ratio, by_process(row)))
    return table(HEAD, rows) if rows else f"{MISSING}\n"


def two_lanes(found: Found) -> str:
    alone, both = found.arm("two_lanes", "one lane"), found.arm("two_lanes", "two lanes")
    if not alone or not both:
        return f"{MISSING}\n"
    shares = ", ".join(f"lane {lane}: {shown(rate)}/s" for lane, rate in both["by_lane"].items())
    return table(
        HEAD,
        [
            ("one lane alone", "–", f"{shown(alone['per_second'])}/s", "1", by_process(alone)),
            ("two", "–", f"{shown(both['per_second'])}/s ({shares})", both["sum_to_one_lane"], by_process(both)),
        ],
    )


def soak(found: Found) -> str:
    row = found.arm("soak")
    if not row:
        return f"{MISSING}\n"
    rows = [
        (name, row["rss_first_mib"][name], row["rss_last_mib"][name], row["mib_a_minute"][name])
        for name in row["rss_last_mib"]
    ]
    head = ("process", "first, MiB", "last, MiB", "MiB a minute over the second half")
    return table(head, rows) + f"\n{shown(row['decided'])} decided meanwhile; CPU {by_process(row)} µs each.\n"


def payloads(found: Found) -> str:
    """Both bodies in full."""
    texts = [f"```json\n{(FOLDER / f'{name}.json').read_text().strip()}\n```" for name in ("minimal", "full")]
    return "\n\n".join(texts) + "\n"


def conditions(found: Found) -> str:
    """Machine, model, rules, thresholds, as each run wrote them."""
    rows = [
        (name, one.get("at"), one.get("machine"), one.get("stored"), one.get("live_rules"), one.get("model"))
        for name, one in sorted(found.files.items())
    ]
    head = ("benchmark", "when", "machine", "decided before", "live rules", "model")
    return table(head, rows) if rows else f"{MISSING}\n"


def arithmetic(found: Found) -> str:
    """How many cores a hundred thousand a second would take."""
    row = found.arm("bulk-minimal", "minimal, flat out")
    if not row:
        return f"{MISSING}\n"
    cpu = row["cpu_us"]["all"]
    client = row["cpu_us"].get("client", 0)
    lines = [
        f"100,000 transactions a second × {cpu:.0f} µs = **{cpu / 10:.1f} cores** busy, client included"
        f" ({(cpu - client) / 10:.1f} without it).",
        f"With a quarter kept free: {cpu / 7.5:.0f} cores.",
        f"A lane's owner uses {row['cpu_us'].get('scorer', 0):.0f} µs a payment of one core, so one lane ends near"
        f" {1e6 / max(1.0, row['cpu_us'].get('scorer', 0)):,.0f} a second and"
        f" {max(1, -(-100_000 * row['cpu_us'].get('scorer', 0) // 1_000_000)):.0f} lanes are needed;"
        f" a web process ({row['cpu_us'].get('web', 0):.0f} µs) ends near"
        f" {1e6 / max(1.0, row['cpu_us'].get('web', 0)):,.0f}, so"
        f" {max(1, -(-100_000 * row['cpu_us'].get('web', 0) // 1_000_000)):.0f} of them.",
    ]
    return "\n".join(f"- {line}" for line in lines) + "\n"


TABLES: dict[str, Callable[[Found], str]] = {
    name.replace("_", "-"): make
    for name, make in list(globals().items())
    if name
    in ("bulk", "decisions", "decisions_beside", "drain", "restart", "screen", "epoch", "two_lanes", "soak", "payloads",
        "conditions", "arithmetic", "desk", "desk_pages")
}  # fmt: skip


def fill(text: str, found: Found) -> str:
    """The page with every block made anew that there are results for. Raises KeyError for one that nobody makes."""
    return BLOCK.sub(lambda block: block[1] + made(block[2], block[0].split("\n", 1)[1], found) + block[3], text)


def made(name: str, before: str, found: Found) -> str:
    """A block's new content, or what stands there where nothing of it was measured."""
    before, text = before.rsplit("<!-- end -->", 1)[0], TABLES[name](found)
    if name == "conditions":
        return with_others(text, before, found)
    return before if MISSING in text else text


def with_others(text: str, before: str, found: Found) -> str:
    """The table of conditions with the lines of benchmarks that were run at other times."""
    lines = text.splitlines() if found.files else []
    others = [line for line in before.splitlines() if line.split("|")[1].strip() not in found.files]
    head = (lines or others)[:2]
    return "\n".join(head + sorted({*lines[2:], *others} - {*head})) + "\n"


def main() -> None:
    """Fill the page; list what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    found = Found(asked.folder)
    text = fill(PAGE.read_text(), found)
    for each in dict.fromkeys(found.missing):
        print(f"not measured: {each}")
    if not asked.check:
        PAGE.write_text(text)
    sys.exit(1 if found.missing and asked.check else 0)


if __name__ == "__main__":
    main()
