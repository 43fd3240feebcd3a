# ruff: noqa: INP001 - a program, no module
"""`joblease step`, `joblease checkpoint` and `joblease result`, for shell scripts that are handlers.

Run as a file, without site packages and with the fewest imports: a script may call it for each line of its input. All
other commands of `joblease` are those of the command line, when it is installed.
"""

import json
import os
import sys

TYPE_CHECKING = False  # that of `typing`, which takes longer to import than this to run
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = """usage: joblease step MESSAGE [--progress PART] [--data JSON]
       joblease checkpoint JSON
       joblease result JSON
"""


def main() -> None:
    """Write one line on the descriptor that JOBLEASE_FD names; exit code 2 when there is nothing to write."""
    verb, *arguments = sys.argv[1:] or [""]
    if verb == "step":
        line = _step(arguments)
    elif verb in ("checkpoint", "result"):
        if len(arguments) != 1:
            _refuse(f"{verb} takes one argument, JSON")
        line = {verb: _json(verb, arguments[0])}
    else:
        return _pass_on()
    try:
        block = json.dumps(line).encode() + b"\n"
        while block:
            block = block[os.write(int(os.environ["JOBLEASE_FD"]), block) :]
    except (OSError, LookupError, ValueError) as error:
        _refuse(f"nobody listens on the descriptor JOBLEASE_FD: {error}")
    return None


def _step(arguments: "list[str]") -> "dict[str, object]":
    line: dict[str, object] = {}
    words, options = iter(arguments), True
    for word in words:
        if options and word in ("--progress", "--data"):
            line[word[2:]] = _json(word, next(words, ""))
        elif options and word == "--":
            options = False
        elif options and word.startswith("--"):
            _refuse(f"{word} is unknown: before a message that begins so, write --")
        else:
            if "step" in line:
                _refuse(f"one message, not also {word!r}; it may need quotes")
            line["step"] = os.fsencode(word).decode(errors="backslashreplace")
    if not line:
        _refuse("step takes a message")
    return line


def _json(name: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(f"{name} takes JSON, not {text[:100]!r}: {error}")


def _pass_on() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes longer than all else here
    others = [folder for folder in os.environ.get("PATH", os.defpath).split(":") if folder != here]
    os.environ["PATH"] = ":".join(others)
    try:
        os.execvp("joblease", sys.argv[:])  # noqa: S606, S607 - as it was called
    except OSError:
        _refuse("the command line is not installed here")


def _refuse(why: str) -> "NoReturn":
    sys.stderr.write(f"joblease: {why}\n{USAGE}")
    sys.exit(2)


if __name__ == "__main__":
    main()
