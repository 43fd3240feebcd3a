"""Put the comments of the chart's values.yaml into its schema, as descriptions: a part of `make chart-docs`."""

import json
import re
from pathlib import Path
from typing import Any

CHART = Path(__file__).parents[1] / "charts" / "joblease"
WIDTH = 120


def comments(text: str) -> dict[tuple[str, ...], str]:
    """What stands behind `# --` above each value, by its path."""
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    comment: list[str] | None = None
    for line in text.splitlines():
        if said := re.match(r" *# (-- )?(.*)", line):
            if said[1]:
                comment = [said[2]]
            elif comment is not None:
                comment.append(said[2])
        elif key := re.match(r"( *)(\w+):", line):
            path = [*(each for each in path if each[0] < len(key[1])), (len(key[1]), key[2])]
            if comment:
                found[tuple(name for _, name in path)] = " ".join(comment)
            comment = None
        else:
            comment = None
    return found


def describe(schema: dict[str, Any], said: dict[tuple[str, ...], str]) -> None:
    """Write each comment into the part of the schema that is about its value; parts that are shared keep the first."""
    described = set()
    for path, text in said.items():
        part = schema
        for name in path:
            shared = part.get("$ref", "").removeprefix("#/$defs/")
            part = (schema["$defs"][shared] if shared else part)["properties"][name]
        if id(part) not in described:
            described.add(id(part))
            part.pop("description", None)
            rest = dict(part)
            part.clear()
            part.update({"description": text, **rest})


def written(value: Any, indent: int = 0, before: int = 0) -> str:
    """JSON, with whatever fits into a line in one line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or indent + before + len(line) < WIDTH:
        return line
    inner = " " * (indent + 2)
    if isinstance(value, list):
        parts = [inner + written(each, indent + 2) for each in value]
    else:
        keys = {json.dumps(key): each for key, each in value.items()}
        parts = [f"{inner}{key}: {written(each, indent + 2, len(key) + 2)}" for key, each in keys.items()]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return f"{opening}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closing}"


def document(schema: str, values: str) -> str:
    """The schema with the descriptions of now."""
    parsed = json.loads(schema)
    describe(parsed, comments(values))
    return written(parsed) + "\n"


if __name__ == "__main__":
    file = CHART / "values.schema.json"
    file.write_text(document(file.read_text(), (CHART / "values.yaml").read_text()))
