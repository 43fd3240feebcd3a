"""Bounds that more than one part checks. Constants alone, so that a handler process can import them at no cost."""

MAX_DEPTH = 64
"""Levels of a JSON value that a person or a handler gives; a list or an object that holds no other is one level.

pydantic writes 255 levels and Python's `json` about a thousand; both then raise an error that names nothing. A value is
wrapped a few times on its way (row, event, message), and 64 levels leave room for that everywhere.
"""
