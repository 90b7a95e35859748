"""``docs/evidence/gpu.md`` from ``benchmarks/results/gpu.json``."""

from __future__ import annotations

from typing import Any

from benchmarks.common.tables import interval, number, paragraph, table

_INTRODUCTION = """# On a GPU

```bash
python -m benchmarks.gpu
```

measures VideoMAE-B, -L and -H with random weights on a GPU and writes this page: whether engines build and run, how far
their logits are from float64 PyTorch, what the key costs, which share of the card's matrix products the inference
reaches, and the time of encryption on the card. The key is in a bank, as always; the plain model has none. The script
uses what is installed (TensorRT, TensorRT-RTX, ONNX Runtime's CUDA provider, torch.compile) and gives the reason if an
engine does not run. `--sizes B --batches 1,8 --precisions fp16` measures less; figures of earlier runs are kept. Every
figure is written when it is measured. After an interruption, `--resume` measures only what is missing; exports are kept
in `build/gpu`. `--device cpu --sizes tiny --output FOLDER` tries the script on a CPU."""

_NEVER = "**It has not been run on a GPU yet**, so there are no figures here."


def render(results: dict[str, Any]) -> str:
    """The page; without results it says so."""
    if not results:
        return f"{_INTRODUCTION}\n\n{_NEVER}\n"
    stamp = results["stamp"]
    versions = ", ".join(f"{name} {number}" for name, number in stamp["versions"].items())
    last = f"Last run on {stamp['date']}: {stamp['card']}, driver {stamp['driver']}; {versions}."
    parts = [
        _INTRODUCTION,
        paragraph(last, stamp.get("note", "")),
        _copies(results.get("copies", {"reason": ""})),
        *map(_size, results.get("sizes", {}).items()),
        _families(results.get("families", {})),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _copies(copies: dict[str, Any]) -> str:
    if "reason" in copies:
        return ""
    on_card, pageable, pinned = (copies[name] / 1e9 for name in ("on_card", "from_pageable", "from_pinned"))
    return paragraph(
        f"Copies on the card move {on_card:.0f} GB/s, counting reads and writes; from the host's memory to the",
        f"card {pageable:.0f} GB/s, from pinned memory {pinned:.0f} GB/s.",
    )


def _size(item: tuple[str, dict[str, Any]]) -> str:
    name, size = item
    engines = size["engines"]
    parts = [
        *(f"## {name}", _engines(size), _reasons(engines)),
        *(_attention(engines), _serving(engines), _several_keys(engines), _first_runs(engines)),
        *(_torch(size["torch_bf16"]), _encryption(size["encryption"])),
    ]
    return "\n\n".join(part for part in parts if part)


def _measured(engines: dict[str, Any], figure: str) -> list[tuple[dict[str, Any], Any]]:
    """Engines that have a figure, with it."""
    there = [(engine, engine[figure]) for engine in engines.values() if figure in engine]
    return [(engine, found) for engine, found in there if "reason" not in found]


def _attention(engines: dict[str, Any]) -> str:
    found = _measured(engines, "attention")
    if not found:
        return ""
    batches = list(next(iter(found[0][1].values())))
    head = ("attention in ONNX Runtime, ms of a batch on the card", "precision", *batches)
    rows = [
        (kernel, engine["precision"], *(f"{times[batch]:.2f}" if batch in times else "-" for batch in batches))
        for engine, kernels in found
        for kernel, times in kernels.items()
    ]
    return table(head, rows)


def _families(families: dict[str, Any]) -> str:
    if not families:
        return ""
    head = ("model", "precision", "ms of a batch on the card", "logit scale", "max |Δlogit|", "top-1")
    rows = [
        (row["label"], row["precision"], row["reason"], "", "", "")
        if "reason" in row
        else (
            row["label"],
            row["precision"],
            ", ".join(f"{batch}: {time:.1f}" for batch, time in row["milliseconds"].items()),
            f"{row['logit_scale']:.1f}",
            f"{row['difference']:.1g}",
            f"{row['top1']:.0%} of {row['clips']}",
        )
        for row in families.values()
    ]
    text = paragraph(
        "`python -m benchmarks.gpu.families` makes large models of other families with random weights, exports them,",
        "and compares them with transformers in float32 on the same card. ONNX Runtime, CUDA provider.",
    )
    return f"## Other families\n\n{text}\n\n{table(head, rows)}"


def _serving(engines: dict[str, Any]) -> str:
    head = ("`lcve serve`, clips of one request each", "load", "requests/s", "median", "clips a run", "server's cores")
    rows = [
        (
            f"{engine['label']}, {engine['precision']}",
            load,
            f"{row['rate']:.0f}",
            f"{row['milliseconds']:.1f} ms",
            f"{row['clips_a_run']:.1f}",
            f"{row['server_cores']:.1f}",
        )
        for engine, found in _measured(engines, "serving")
        for load, row in found.items()
    ]
    return table(head, rows) if rows else ""


def _several_keys(engines: dict[str, Any]) -> str:
    head = ("batches of several keys", "keys", "over one key", "quartiles", "max |Δlogit|", "cold key", "after that")
    rows = [
        (
            f"{engine['label']}, {engine['precision']}",
            str(row["keys"]),
            number(row["ratio"]),
            interval(row, 3),
            f"{row['difference']:.1g}",
            f"{row['cold']:.1f} ms",
            f"{row['warm']:.1f} ms",
        )
        for engine, row in _measured(engines, "several_keys")
    ]
    return table(head, rows) if rows else ""


def _first_runs(engines: dict[str, Any]) -> str:
    found = _measured(engines, "first_runs")
    if not found:
        return ""
    head = ("first and second run of a batch, ms", *(str(row["batch"]) for row in found[0][1]))
    rows = [
        (f"{engine['label']}, {engine['precision']}", *(f"{row['first']:.0f}, {row['second']:.0f}" for row in runs))
        for engine, runs in found
    ]
    return table(head, rows)


def _torch(found: dict[str, Any]) -> str:
    if "reason" in found:
        return f"The plain model in PyTorch bf16: {found['reason']}."
    rows = [
        (mode, batch, rate["reason"] if isinstance(rate, dict) else f"{rate:.1f}")
        for mode, rates in found.items()
        for batch, rate in rates.items()
    ]
    return table(("the plain model in PyTorch, all in bf16, clips on the card", "batch", "clips/s"), rows)


def _engines(size: dict[str, Any]) -> str:
    head = (
        "engine",
        "precision",
        "batch",
        "latency",
        "clips/s",
        "share of peak",
        "scrambled over plain",
        "quartiles",
        "max |Δlogit|",
        "top-1",
    )
    rows = [
        (
            engine["label"],
            engine["precision"],
            batch,
            f"{1e3 * row['second']:.2f} ms",
            f"{row['clips_per_second']:.1f}" + ("" if row.get("resident") else " (host)"),
            "-" if row["share"] is None else f"{row['share']:.0%}",
            "-" if row["ratio"] is None else number(row["ratio"]),
            "-" if row["ratio"] is None else interval(row, 3),
            f"{engine['difference']:.1g}",
            f"{engine['top1']:.0%} of {engine['clips']}",
        )
        for engine in size["engines"].values()
        if "batches" in engine
        for batch, row in engine["batches"].items()
        if "reason" not in row
    ]
    peaks = ", ".join(f"{precision} {_peak(peak)}" for precision, peak in size["peaks"].items())
    text = paragraph(
        f"One clip is {size['gflop']:.0f} GFLOP; the peak is that of a large matrix product, in TFLOP/s: {peaks}.",
        "Latency is that of the scrambled engine with clips in the host's memory. Clips per second are for clips that",
        "are on the card, or with the copies where it says host. Δ is the difference from float64 PyTorch on the plain",
        "clips.",
    )
    return f"{text}\n\n{table(head, rows)}" if rows else text


def _peak(peak: dict[str, Any]) -> str:
    return peak.get("reason") or f"{peak['rate'] / 1e12:.2f} ({peak['library']})"


def _reasons(engines: dict[str, Any]) -> str:
    rows = [(e["label"], e["precision"], e["reason"]) for e in engines.values() if "reason" in e]
    rows += [
        (f"{e['label']}, batch {batch}", e["precision"], row["reason"])
        for e in engines.values()
        for batch, row in e.get("batches", {}).items()
        if "reason" in row
    ]
    return table(("did not run", "precision", "why"), rows) if rows else ""


def _encryption(batches: dict[str, dict[str, Any]]) -> str:
    rows = [
        (batch, row["reason"], "", "", "")
        if "reason" in row
        else (
            batch,
            f"{1e3 * row['second']:.2f} ms",
            f"{1e3 * row['first']:.2f} ms",
            number(row["ratio"], 1) + (f" ({interval(row, 1)})" if "low" in row else ""),
            "yes" if row["same_as_numpy"] else "**no**",
        )
        for batch, row in batches.items()
    ]
    return table(("encrypting clips on the card", "time", "copying their memory there", "ratio", "NumPy's bytes"), rows)
