# SPDX-License-Identifier: Apache-2.0
"""The command line of install.py."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path

from engine.setup import demo, doctor, steps, suite, torch_build
from engine.setup.console import SetupProblem, paint, prepare_streams, say

SOURCE = Path(__file__).resolve().parents[2]
QUALITIES = ("draft", "standard", "high")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="install.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Sets Tweed up: the engine's environment, the extension's zip, and the extension in your Blender.",
        epilog="With no command it sets everything up. It can be run again at any time; it goes on where it stopped.",
    )
    settings(top)
    top.add_argument(
        "--nvdiffrast", action="store_true", help="also install NVIDIA's rasterizer (research or evaluation use only)"
    )
    top.add_argument("--yes", action="store_true", help="accept nvdiffrast's licence without being asked")
    top.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    commands = top.add_subparsers(dest="command", metavar="demo | test | doctor")

    show = commands.add_parser("demo", help="set everything up, then texture Suzanne in real Blender")
    settings(show, argparse.SUPPRESS)
    show.add_argument("--prompt", default=demo.PROMPT, help="what the surface should look like (default: %(default)s)")
    show.add_argument("--out", type=Path, metavar="FOLDER", help="where the results go (default: tweed-demo)")
    show.add_argument("--quality", choices=QUALITIES, default=None)
    show.add_argument("--seed", type=int, default=7)
    show.add_argument(
        "--engine-only", action="store_true", help="no Blender: texture a ring with the engine's own command"
    )

    test = commands.add_parser("test", help="set up the development tools and run every test")
    settings(test, argparse.SUPPRESS)
    test.add_argument("--only", choices=("engine", "blender", "gui"), help="one leg alone")
    test.add_argument(
        "--full-blender",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="make a folder with the full Blender application if there is none (Debian, as root; default: only in CI)",
    )
    test.add_argument(
        "--newest-blender",
        action="store_true",
        help="the same clicks also in the newest Blender that Debian has (from unstable)",
    )
    test.add_argument("pytest", nargs="*", metavar="-- PYTEST ARGUMENT", help="passed on to pytest")

    look = commands.add_parser("doctor", help="say what was found here and how to mend what is wrong")
    settings(look, argparse.SUPPRESS)
    look.add_argument("--json", action="store_true")
    return top


def settings(target: argparse.ArgumentParser, default=None) -> None:
    """Options that stand before or after the command."""
    suppressed = {"default": default} if default is argparse.SUPPRESS else {}
    target.add_argument(
        "--prefix",
        type=Path,
        metavar="FOLDER",
        help="where the environments go (default: beside install.py)",
        **suppressed,
    )
    target.add_argument(
        "--find-links",
        type=Path,
        metavar="FOLDER",
        help="install from this folder of wheels, without a network",
        **suppressed,
    )
    target.add_argument(
        "--torch", choices=torch_build.CHOICES, help="the build of torch", **(suppressed or {"default": "auto"})
    )
    target.add_argument("--no-blender", action="store_true", help="leave installed Blenders alone", **suppressed)


def check(options: argparse.Namespace) -> None:
    if options.find_links is not None:
        options.find_links = options.find_links.expanduser().resolve()
        if not options.find_links.is_dir():
            raise SetupProblem(
                f"--find-links names no folder: {options.find_links}",
                "Give the folder that holds the .whl files.",
                code=2,
            )
    if options.command == "demo" and not options.prompt.strip():
        raise SetupProblem(
            "The prompt is empty.", 'Say what the surface should look like, e.g. --prompt "old oak planks".', code=2
        )


def main(arguments: list[str]) -> int:
    prepare_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside: take the programs started along
    options = parser().parse_args(arguments)
    try:
        check(options)
        place, machine = steps.this_machine(SOURCE, options.prefix)
        if options.command == "demo":
            return demo.run(place, machine, options)
        if options.command == "test":
            return suite.run(place, machine, options)
        if options.command == "doctor":
            return doctor.run(place, machine, options.json)
        return steps.install(place, machine, options)
    except SetupProblem as problem:
        say(f"\n{paint('Stopped:', 'red')} {problem.message}")
        if problem.remedy:
            say(f"What to do: {problem.remedy}")
        return problem.code
    except BrokenPipeError:  # `install.py doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        say("\nInterrupted. Run the same command again: it goes on where it stopped.")
        return 130
    except Exception as error:  # noqa: BLE001 border: the installer
        traceback.print_exc(file=sys.stderr)
        say(f"\n{paint('Stopped:', 'red')} install.py met a fault of its own: {type(error).__name__}: {error}")
        say("What to do: run `python3 install.py doctor`, and report what stands above.")
        return 1
