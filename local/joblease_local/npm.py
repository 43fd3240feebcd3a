"""Programs from npm, installed into the cache when they are not there in the wanted version."""

import shutil
import subprocess
from pathlib import Path

from joblease_local.processes import PartFailed, Say, one_at_a_time

INSTALL_SECONDS = 600


def require(name: str, package: Path, script: str, cache: Path, say: Say, instead: str = "") -> Path:
    """The path of a script below `node_modules`; `package` is the package.json that names what to install.

    `instead` tells what to do without Node.js. Raises `PartFailed`.
    """
    with one_at_a_time(cache):
        return _require(name, package.read_text(), cache / "node_modules" / script, cache, say, instead)


def _require(name: str, wanted: str, script: Path, cache: Path, say: Say, instead: str) -> Path:
    staged = cache / "package.json"
    if script.exists() and staged.exists() and staged.read_text() == wanted:
        return script
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        raise PartFailed(f"{name} needs Node.js and npm (Debian: apt-get install nodejs npm){instead}.")
    say(f"{name}: installing from npm (about half a minute)")
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    staged.write_text(wanted)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--omit=dev", "--no-package-lock", "--ignore-scripts"],
        cwd=cache,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode or not script.exists():
        staged.unlink()
        raise PartFailed(f"npm could not install {name}: {done.stderr.strip()[-800:]}")
    return script
