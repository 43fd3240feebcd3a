"""httpx without its command line, which no client uses.

Where click and rich are installed, to import that takes as long as all the rest of httpx; where they are not, httpx
does without. So it is told that they are not.
"""

import sys

_COMMAND_LINE = "httpx._main"
if "httpx" in sys.modules:
    import httpx
else:
    # An import of it fails now, which httpx expects.
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]
    try:
        import httpx
    finally:
        del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]
