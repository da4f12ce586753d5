"""Sections of the report on learning: fits, the nightly jobs, contrasts, off-policy estimates and stopping rules."""

from pathlib import Path

from bench import contrast, fits, nightly, off_policy, stopping
from bench.measure import fresh_folder
from bench.planted_causes import interval
from bench.report import TITLES


def fits_section(work: Path, scale: int, environments: Path) -> list[str]:
    """Each fit beside its peer."""
    lines = [
        "",
        f"## {TITLES['fits']}",
        "",
        "The same data for both; a peer runs in its own environment where it is installed. Apart: the largest",
        "difference between the two answers. Known: how far ours is from the simulated truth.",
        "",
        "| fit | seconds | peer, seconds | times faster | apart | known |",
        "|---|---|---|---|---|---|",
    ]
    for row in fits.measure(work, environments, scale):
        peer = f"{row.peer} {row.peer_seconds:.2f}" if row.peer_seconds is not None else row.peer
        times = f"{row.times:,.1f}" if row.times is not None else ""
        apart = f"{row.apart:.1e}" if row.apart is not None else ""
        lines.append(f"| {row.what} | {row.seconds:.3f} | {peer} | {times} | {apart} | {row.note} |")
        print(lines[-1], flush=True)
    return lines


def nightly_section(work: Path, scale: int) -> list[str]:
    """The jobs of a night, one after the other."""
    traces, users = 1_000_000 // scale, 100_000 // scale
    figures, peak_mb = nightly.measure(fresh_folder(work / "nightly"), traces, users)
    lines = [
        "",
        f"## {TITLES['nightly']}",
        "",
        f"{traces:,} traces of {users:,} users with {5 * traces:,} spans and signals of ten kinds, each job once on",
        "a store that no job has seen. Aim: under 5 minutes and 6 GB on two cores.",
        "",
        "| job | seconds | what it said |",
        "|---|---|---|",
        *(f"| {row.job} | {row.seconds:.1f} | {row.message.replace('|', '/')[:160]} |" for row in figures),
        "",
        f"Together {sum(row.seconds for row in figures):,.0f} s, peak {peak_mb:,.0f} MB.",
    ]
    print("\n".join(lines), flush=True)
    return lines


def contrast_section(work: Path, scale: int) -> list[str]:
    """Comparing rollouts: the time it takes, and the planted causes that it finds."""
    figures = contrast.measure(fresh_folder(work / "contrast"), scale)
    seeds = range(1, max(20 // scale, 2) + 1)
    found = contrast.causes(work / "causes", seeds)
    planted, missed = sum(one.planted for one in found), sum(len(one.missed) for one in found)
    findings, false = sum(one.findings for one in found), sum(len(one.false) for one in found)
    low, high = interval(planted - missed, planted)
    least, most = interval(false, findings)
    lines = [
        "",
        f"## {TITLES['contrast']}",
        "",
        f"{figures.traces:,} traces in {figures.groups:,} groups, five spans each: comparing calls that are in memory,",
        "and all that the job does before it writes (reading, comparing, coverage, drafts). Aim: under 60 s on two",
        "cores. Processor seconds are those of all threads together.",
        "",
        "| what | seconds | processor seconds | peak MB |",
        "|---|---|---|---|",
        f"| comparing | {figures.seconds:.1f} | {figures.processor_seconds:.1f} | {figures.peak_mb:,.0f} |",
        f"| with reading and drafting | {figures.whole_seconds:.1f} | {figures.whole_processor_seconds:.1f} | "
        f"{figures.whole_peak_mb:,.0f} |",
        "",
        f"{figures.tested:,} patterns tested, {figures.findings:,} findings.",
        "",
        f"Planted causes of {len(found)} simulated deployments (4,000 traces, rewards fitted from signals), each a",
        "seed; what counts as found and as false is in bench/planted_causes.py. Aim: at least 90 % found, at most 5 %",
        "of findings false.",
        "",
        "| planted | found | 95 % interval | findings | false | 95 % interval |",
        "|---|---|---|---|---|---|",
        f"| {planted:,} | {1 - missed / planted:.1%} | {low:.1%} to {high:.1%} | {findings:,} | "
        f"{false / max(findings, 1):.1%} | {least:.1%} to {most:.1%} |",
    ]
    print("\n".join(lines), flush=True)
    return lines


def off_policy_section(scale: int, environments: Path) -> list[str]:
    """Off-policy estimates beside obp."""
    lines = [
        "",
        f"## {TITLES['off-policy']}",
        "",
        "IPS, SNIPS, DM, DR, SWITCH and DRos of decisions with ten arms, from the same arrays; obp 0.5.5 in its own",
        "environment. Our intervals hold at every look and come with diagnostics and the tuning of SWITCH and DRos;",
        "obp's are its 100 bootstraps. Aim on a million: 5 times faster for points, 50 times with intervals.",
        "",
        "| decisions | points, s | obp, s | times faster | with intervals, s | obp, s | times faster | apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in off_policy.measure(environments, scale):
        cells = [f"{row.decisions:,}", f"{row.points:.3f}"]
        if row.peer_points is None or row.peer_intervals is None:
            cells += ["not installed", "", f"{row.intervals:.3f}", "not installed", "", ""]
        else:
            cells += [f"{row.peer_points:.3f}", f"{row.peer_points / row.points:,.1f}", f"{row.intervals:.3f}"]
            cells += [f"{row.peer_intervals:.1f}", f"{row.peer_intervals / row.intervals:,.0f}", f"{row.apart:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def stopping_section(scale: int) -> list[str]:
    """How often each stopping rule names a wrong winner, and how long it takes to the right one."""
    lines = [
        "",
        f"## {TITLES['stopping']}",
        "",
        "Arms with binary rewards, 20,000 pulls drawn evenly or 10,000 drawn by steering (Thompson sampling, floor",
        "of .05). TensorZero's published track-and-stop rule and ours on the same streams, with",
        f"{stopping.EVERY} pulls between looks unless said otherwise. Wrong: a winner that is not the best arm, at any",
        "look; with equal arms any. Where draws follow outcomes, means by arm mix up arm and time: ours weighs each",
        "decision by its logged propensity, which holds in a world that drifts and takes longer in one that does not.",
        "Aim: wrong in at most 5 % of runs, also with a look at every pull.",
        "",
        "| arms | rule | runs | wrong winner | right winner | median pulls to it |",
        "|---|---|---|---|---|---|",
    ]
    for row in stopping.measure(scale):
        pulls = "" if row.decisions is None else f"{row.decisions:,.0f}"
        lines.append(f"| {row.setting} | {row.rule} | {row.runs:,} | {row.wrong:.1%} | {row.right:.1%} | {pulls} |")
        print(lines[-1], flush=True)
    return lines
