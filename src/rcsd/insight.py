"""What a run's numbers mean: curves and facts of one run, and its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rcsd.report import Curve, ReportPage, Sample, SampleAnswer, write_report
from rcsd.runs import RunFolder

# Metric, its name in the report, its unit.
_CURVES = (
    ("loss/divergence_nats_mean", "divergence", "nats per token"),
    ("loss/nll_nats_mean", "negative log-likelihood", "nats per token"),
    ("student/entropy_nats_mean", "student entropy", "nats"),
    ("completion/length_tokens_mean", "completion length", "tokens"),
    ("completion/truncated_share", "truncated completions", "share"),
    ("optim/grad_norm", "gradient norm", "before clipping"),
    ("eval/score_mean", "held-out score", "0 to 1"),
    ("eval/accuracy_mean", "held-out accuracy", "0 to 1"),
)
_NUM_SAMPLES = 4


def curves(arm: str, rows: Sequence[Mapping[str, float]]) -> list[Curve]:
    """The curves of one run that a reader looks at first."""
    found = []
    for metric, name, unit in _CURVES:
        points = [(int(row["step"]), row[metric]) for row in rows if metric in row]
        if points:
            steps, values = zip(*points, strict=True)
            found.append(Curve(arm, name, unit, steps, values))
    return found


def write_run_report(folder: RunFolder) -> Path:
    """Write ``report.html`` of one run: curves, last completions, facts; returns its path."""
    record, path = folder.read_record(), folder.path / "report.html"
    last = folder.completions()[-_NUM_SAMPLES:]
    samples = [
        Sample(row["question"], (SampleAnswer(f"step {row['step']}", row["text"]),)) for row in last
    ]
    page = ReportPage(
        title=folder.path.name,
        subtitle=f"{record['config']['method']['type']} from {record['config']['model']['path']}",
        curves=tuple(curves(folder.path.name, folder.metrics())),
        samples=tuple(samples),
        facts=facts(record),
    )
    write_report(page, path)
    return path


def facts(record: Mapping[str, object]) -> dict[str, object]:
    """A run's record as flat names and values."""
    flat: dict[str, object] = {}

    def add(name: str, value: object) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name}.{key}" if name else str(key), inner)
        elif isinstance(value, list) and len(value) > 4:
            flat[name] = f"{len(value)} rows"
        else:
            flat[name] = value

    for key in ("config", "versions", "num_examples", "dropped", "git_revision", "data_sha256"):
        add("" if key == "config" else key, record.get(key))
    return flat
