"""A LaTeX table of a report, for a paper; packages: booktabs."""

from __future__ import annotations

from collections.abc import Iterable

from fastsnn_deploy.analysis.mapping.usage import RESOURCES
from fastsnn_deploy.reporting.page import joules, seconds, significant
from fastsnn_deploy.reporting.schema import ReportFile
from fastsnn_deploy.tables import percent, shape, shown

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "µ": r"\textmu{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is; line breaks become blanks, characters that no font has are left out.

    Example:
        >>> escaped("conv_1 & 50 %")
        'conv\\\\_1 \\\\& 50 \\\\%'
    """
    return "".join(SPECIAL.get(letter, letter if letter.isprintable() else " ") for letter in text)


def latex(file: ReportFile, keys: Iterable[str]) -> str:
    """The table of layers with everything else in its caption. keys: of the BibTeX entries to cite."""
    head = ["Layer", "Shape", "Cores", "Fullest limit", "Spikes", "Syn.\\ operations", "Energy"]
    lines = [
        "% made by fastsnn-deploy; needs \\usepackage{booktabs}, and sources.bib",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_caption(file, keys)}}}",
        "\\begin{tabular}{llrlrrr}",
        "\\toprule",
        " & ".join(head) + " \\\\",
        "\\midrule",
        *(" & ".join(map(escaped, _cells(file, index))) + " \\\\" for index in range(len(file.layers))),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cells(file: ReportFile, index: int) -> tuple[str, ...]:
    row = file.layers[index]
    limit = f"{RESOURCES[row.limiting]} {percent(row.limiting_share)}" if row.limiting else ""
    sent = None if row.positive_spikes is None else row.positive_spikes + (row.negative_spikes or 0)
    return (
        row.layer,
        shape(row.shape),
        shown(row.cores),
        limit,
        significant(sent, 4),
        significant(row.synaptic_operations, 6),
        joules(row.energy_pj.value) if row.energy_pj is not None else "",
    )


def _caption(file: ReportFile, keys: Iterable[str]) -> str:
    parts = [f"{file.network.name} on {file.hardware.title}"]
    if (fit := file.fit) is not None:
        parts.append(
            f"{shown(fit.cores)} cores, chips: {shown(fit.chips)}" if fit.fits
            else f"does not fit, {len(fit.violations)} violations"
        )  # fmt: skip
    if file.accuracy is not None and file.accuracy.top:
        parts += [f"top-{k} accuracy {percent(share)}" for k, share in file.accuracy.top.items()]
    if file.time is not None:
        parts.append(f"latency at least {seconds(file.time.latencies[0].ns.value)}")
    for each in file.energy.boundaries if file.energy is not None else ():
        if each.energy_pj is not None:
            parts.append(f"energy, {each.name}: {joules(each.energy_pj.value)}")
    if file.proof is not None:
        parts.append(file.proof.line)
    cited = ",".join(keys)
    return escaped("; ".join(parts)) + ". Counts and energies are estimates for one image" + (
        f"~\\cite{{{cited}}}." if cited else "."
    )  # fmt: skip
