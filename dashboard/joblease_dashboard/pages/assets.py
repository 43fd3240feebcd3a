"""Files whose address changes with their content: a browser asks for each of them once."""

import hashlib
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
FOREVER = "public, max-age=31536000, immutable"


class Assets(StaticFiles):
    """Serves them."""

    async def get_response(self, path: str, scope: Any) -> Response:
        """A file, for ever when it was asked for by its content's mark."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = FOREVER if scope["query_string"] else "no-cache"
        return response


def marks() -> dict[str, str]:
    """Each file under `static`, and a mark of its content."""
    return {
        str(path.relative_to(STATIC)): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in STATIC.rglob("*")
        if path.is_file()
    }
