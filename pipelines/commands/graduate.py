"""`graduate`: teach lessons with lasting payoff to a model: export, fine-tune, try without, graduate."""

import argparse
import getpass
import json
from pathlib import Path
from typing import Any

from pipelines.commands.access import operations
from pipelines.terminal import printable
from store.settings import Settings

_OPERATOR = "who does it (default: the name of this machine's user)"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("graduate", help="teach lessons with lasting payoff to a model")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, help: str, *, acts: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(name, parents=[shared], help=help)
        made.add_argument("--json", action="store_true", help="print a JSON object")
        if acts:
            made.add_argument("--operator", metavar="NAME", default=_somebody(), help=_OPERATOR)
        made.set_defaults(handler=run)
        return made

    one = add("eligible", "which lessons have lasting payoff, and what the others lack", acts=False)
    one.add_argument("--agent", metavar="A", help="of this agent (default: of all)")
    one = add("export", "make training data of an agent's good traces, without what users did not agree to")
    one.add_argument("agent", metavar="AGENT", help="whose traces")
    one.add_argument("lessons", metavar="LESSON", nargs="*", help="ids (default: all that may graduate)")
    one.add_argument("--out", type=Path, metavar="FOLDER", help="also write the files into this new folder")
    one.add_argument("--stated", action="store_true", help="only users who state learning_opt_out as no")
    one.add_argument("--high", type=float, metavar="R", help="the least reward of a good trace (default: 0.75)")
    one.add_argument("--low", type=float, metavar="R", help="the most reward of a bad trace (default: 0.4)")
    one.add_argument("--days", type=float, metavar="D", help="better for so many days (default: 14)")
    one.add_argument("--runs", type=int, metavar="N", help="better in so many runs of the payoffs (default: 3)")
    one = add("write", "write the files of an export into a new folder", acts=False)
    one.add_argument("export", type=int, metavar="EXPORT")
    one.add_argument("out", type=Path, metavar="FOLDER")
    one = add("propose", "propose to fine-tune a model on an export; nothing is sent")
    one.add_argument("export", type=int, metavar="EXPORT")
    one.add_argument("--model", required=True, metavar="M", help="the model that is trained further")
    one.add_argument("--method", choices=("supervised", "dpo"), default="supervised", help="default: supervised")
    one.add_argument("--epochs", type=int, metavar="N", help="how often every example is seen (default: 3)")
    one.add_argument(
        "--usd-per-million", type=float, required=True, metavar="USD",
        help="what the server takes for a million trained tokens; 0 for one of your own",
    )  # fmt: skip
    one = add("approve", "allow a proposed job: it is sent by the job graduate, and costs money")
    one.add_argument("tuning", type=int, metavar="FINE-TUNING")
    one = add("decline", "turn a proposed job down")
    one.add_argument("tuning", type=int, metavar="FINE-TUNING")
    one.add_argument("--reason", required=True, metavar="WHY")
    one = add("trial", "the agent runs the trained model: withhold the lesson from half of its decisions, and measure")
    one.add_argument("agent", metavar="AGENT")
    one.add_argument("lesson", metavar="LESSON")
    one.add_argument("name", metavar="NAME", help="of the model or arm, as traces name it")
    one.add_argument("--basis", choices=("model", "arm"), default="model", help="what NAME is (default: model)")
    one.add_argument("--tuning", type=int, metavar="FINE-TUNING", help="the job that trained it")
    for name, help in (
        ("confirm", "the lesson was absorbed: serve it no more"), ("end", "end a trial; serve the lesson as before"),
    ):  # fmt: skip
        one = add(name, help)
        one.add_argument("trial", type=int, metavar="TRIAL")
    add("status", "exports, fine-tuning jobs and trials", acts=False)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do the action and print what came of it."""
    told = {
        name: value for name, value in vars(arguments).items()
        if name not in ("db", "json", "handler", "command", "action") and value is not None
    }  # fmt: skip
    out = told.pop("out", None)
    with operations(settings, create=False) as work:
        if arguments.action == "write":
            done = work.graduate("write", {**told, "out": str(out.resolve())})
        else:
            done = work.graduate(arguments.action, told)
        if arguments.action == "export" and out is not None:
            done |= work.graduate("write", {"export": done["export_id"], "out": str(out.resolve())})
    print(json.dumps(done) if arguments.json else "\n".join(map(printable, _lines(arguments.action, done))))
    return 0


def _lines(action: str, done: dict[str, Any]) -> list[str]:
    """What came of an action, in sentences."""
    match action:
        case "eligible":
            return [_standing(one) for one in done["lessons"]] or ["No active lesson was measured yet."]
        case "export":
            return [*_export(done), *done.get("paths", [])]
        case "write":
            return list(done["paths"])
        case "propose" | "approve" | "decline":
            return [_tuning(done)]
        case "trial" | "end":
            return [_trial(done)]
        case "confirm":
            return [f"Lesson {done['lesson_id']} is {done['state']}."]
    found = [
        *(f"Export {one['export_id']} of {one['agent']}, {one['created_at'][:16]}" for one in done["exports"]),
        *map(_tuning, done["tunings"]), *map(_trial, done["trials"]),
    ]  # fmt: skip
    return found or ["Nothing was exported yet."]


def _standing(one: dict[str, Any]) -> str:
    effect = "" if one["effect"] is None else f" {one['effect']:+.3f} ({one['lower']:+.3f} to {one['upper']:+.3f})"
    said = f"may graduate: better for {one['days']:.0f} days, {one['runs']} runs" if one["missing"] is None else (
        f"not yet: {one['missing']}"
    )  # fmt: skip
    return f"{one['lesson_id']}  {one['agent']}  {one['title']}{effect}  {said} (n = {one['units']:,})"


def _export(done: dict[str, Any]) -> list[str]:
    lines = [f"Export {done['export_id']}:"]
    for method, told in done["manifest"]["methods"].items():
        lines.append(f"{method}: {told['examples']:,} examples of {told['candidates']:,} candidates.")
        lines += [f"  left out: {number:,} because {reason}" for reason, number in told["left_out"].items()]
        if told["missing"]:
            lines.append(f"  It cannot be trained on: {told['missing']}.")
    redacted = ", ".join(f"{number:,} {form}" for form, number in done["manifest"]["redacted"].items())
    return [*lines, f"Redacted: {redacted or 'nothing'}."]


def _tuning(one: dict[str, Any]) -> str:
    cost = f"{one['tokens']:,} tokens, ${one['usd']:.2f}"
    said = f"Fine-tuning {one['tuning_id']} of {one['model']} on export {one['export_id']}: {one['state']}, {cost}"
    named = f", model {one['tuned_model']}" if one["tuned_model"] else ""
    return f"{said}{named}. {one['message'] or ''}".rstrip()


def _trial(one: dict[str, Any]) -> str:
    said = f"Trial {one['trial_id']} of lesson {one['lesson_id']} with {one['basis']} {one['name']}"
    return f"{said}: {one['state']}. {one['message']}"


def _somebody() -> str:
    """Who is at the command line; in a container the user's number may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "command line"
