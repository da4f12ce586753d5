"""`draft-lessons`: ask the model for lessons now, or show with `--dry-run` what that would say and cost."""

import argparse
import json
import sys
from typing import Any

from pipelines.commands import jobs
from pipelines.commands.access import operations
from pipelines.terminal import printable
from store.errors import ActionRefused
from store.settings import Settings


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "draft-lessons", parents=[shared], help="ask the model for lessons, or show what that would say and cost"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the prompt and its likely and largest cost; nothing is sent"
    )
    parser.add_argument("--agent", metavar="A", help="with --dry-run: of this agent")
    parser.add_argument(
        "--task", metavar="T", help="with --dry-run: about this task (default: the most valuable that is due)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show the next question, or run the job. Returns 1 when the job failed."""
    if not arguments.dry_run:
        if arguments.agent is not None or arguments.task is not None:
            raise ActionRefused(
                "draft-lessons", "--agent and --task choose what --dry-run shows.", "Add --dry-run, or leave them out."
            )
        arguments.job = "draft-lessons"
        return jobs.run(arguments, settings)
    with operations(settings, create=False) as work:
        shown = work.draft_preview(arguments.agent, arguments.task)
    if arguments.json:
        print(json.dumps(shown))
        return 0
    for message in shown["messages"]:
        text = printable(message["text"], "\n\t")
        print(f"--- {message['role']}\n{text}\n")
    print(printable(_costs(shown), "\n"), file=sys.stderr)
    return 0


def _costs(shown: dict[str, Any]) -> str:
    """What the prompt is and costs, in sentences."""
    lines = [
        f"Agent {shown['agent']}, task {shown['task']}: about {shown['tokens']:,} tokens to read by the prompt "
        f"{shown['prompt_version']}, which holds {shown['kept']:.0%} of the rollouts' text."
    ]
    lines += shown["cut"]
    if shown["likely"] is not None:
        way = " in a batch" if shown["batch"] else ""
        if shown["questions"] > 1:
            lines.append(f"A summary of each run is asked for first: {shown['questions']} questions in all.")
        lines.append(
            f"{shown['model']}{way}: likely ${shown['likely']['usd']:.4f} ({shown['likely']['tokens']:,} tokens), at "
            f"most ${shown['most']['usd']:.4f} ({shown['most']['tokens']:,} tokens) an attempt. Nothing was sent."
        )
    if shown["not_now"] is not None:
        lines.append(f"It would not be asked now: {shown['not_now']}")
    return "\n".join(lines)
