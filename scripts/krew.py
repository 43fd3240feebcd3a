"""`kubectl krew`: an archive with the command line for the machine that this runs on, and the plug-in's manifest.

krew unpacks one archive a platform and installs nothing else, so Python and all packages are in it (PyInstaller). It
cannot be built for another platform: build on each, collect the archives in dist/krew, and run this once more with
--only-manifest. The manifest lists the archives that are there.
"""

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "dist" / "krew"
PLUGIN = "kubectl-joblease"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DESCRIPTION = """\
Submits jobs to JobLease (JobRequests, which are run by exactly one worker at a time), follows them to their end,
lists, describes, cancels, suspends and retries them. JobLease must be installed in the cluster.
"""
CAVEATS = """\
Completion of commands, options and names, once:
  kubectl joblease completion kubectl > ~/.krew/bin/kubectl_complete-joblease
  chmod +x ~/.krew/bin/kubectl_complete-joblease
"""


def build() -> Path:
    """The archive for this machine."""
    if os.geteuid() == 0:
        # PyInstaller looks for libraries by `ld -o /dev/null`, and a linker that fails removes its output: root's, too.
        sys.exit("error: not as root, for whom PyInstaller deletes /dev/null; build it as another user")
    machine = platform.machine().lower()
    target = f"{platform.system().lower()}_{ARCHITECTURES.get(machine, machine)}"
    archive = FOLDER / f"{PLUGIN}_{target}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch, "start.py")
        start.write_text("from joblease_cli import start\n\nstart()\n")
        subprocess.run(
            [
                sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN", "--onedir",
                "--name", PLUGIN, "--distpath", f"{scratch}/dist", "--workpath", f"{scratch}/work",
                "--specpath", scratch, "--hidden-import", "joblease_cli.main", "--copy-metadata", "joblease",
                str(start),
            ],
            check=True,
        )  # fmt: skip
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(f"{scratch}/dist/{PLUGIN}", PLUGIN)
            packed.add(ROOT / "LICENSE", "LICENSE")
    return archive


def manifest(url: str, released: str) -> dict[str, object]:
    """What krew reads: where each platform's archive is, and what it must be."""
    platforms = []
    for archive in sorted(FOLDER.glob(f"{PLUGIN}_*.tar.gz")):
        system, _, machine = archive.name.removeprefix(f"{PLUGIN}_").removesuffix(".tar.gz").partition("_")
        platforms.append(
            {
                "selector": {"matchLabels": {"os": system, "arch": machine}},
                "uri": f"{url.rstrip('/')}/{archive.name}",
                "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
                "bin": f"{PLUGIN}/{PLUGIN}",
            }
        )
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "joblease"},
        "spec": {
            "version": f"v{released}",
            "homepage": url,
            "shortDescription": "Submit jobs to JobLease and follow them",
            "description": DESCRIPTION,
            "caveats": CAVEATS,
            "platforms": platforms,
        },
    }


def main() -> None:
    """Build, and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="where the archives will be downloaded from")
    parser.add_argument("--only-manifest", action="store_true", help="of the archives that are in dist/krew")
    options = parser.parse_args()
    if not options.only_manifest:
        archive = build()
        sys.stdout.write(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.0f} MB\n")
    path = FOLDER / "joblease.yaml"
    path.write_text(yaml.safe_dump(manifest(options.url, version("joblease")), sort_keys=False))
    sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
