"""Where etcd and kube-apiserver come from: `KUBEBUILDER_ASSETS`, our own cache, setup-envtest, or a build from source.

The first source that has both wins. The later ones take longer and need more of the network; the build needs only Go
and its module proxy, and is done once.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

from joblease_local.processes import PartFailed, Say, one_at_a_time

NAMES = ("etcd", "kube-apiserver")
KUBERNETES_VERSION = "v1.34.4"
SETUP_ENVTEST = "sigs.k8s.io/controller-runtime/tools/setup-envtest@v0.25.1"
SOURCE = Path(__file__).parent.parent / "controlplane"
DOWNLOAD_SECONDS = 180
BUILD_SECONDS = 3600
BUILD_PACKAGES = 2050
"""About how many packages the build compiles."""


def kubernetes_binaries(cache: Path, say: Say) -> Path:
    """A folder that holds etcd and kube-apiserver. Raises `PartFailed`."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        if not _complete(Path(assets)):
            raise PartFailed(
                f"KUBEBUILDER_ASSETS is {assets}, but there is no {' or no '.join(NAMES)} in it; unset it?"
            )
        return Path(assets)
    with one_at_a_time(cache):
        if not _complete(cache) and not _download(cache, say):
            _build(cache, say)
    return cache


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in NAMES)


def _download(cache: Path, say: Say) -> bool:
    """setup-envtest's download; when it is not possible, a line says why."""
    go = shutil.which("go")
    if not go:
        return False
    say("Kubernetes: downloading etcd and kube-apiserver with setup-envtest")
    command = [go, "run", SETUP_ENVTEST, "use", "1.34.x", "--bin-dir", str(cache / "envtest"), "-p", "path"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        say(f"  no answer within {DOWNLOAD_SECONDS} s")
        return False
    folder = Path(done.stdout.strip())
    if done.returncode == 0 and _complete(folder):
        for name in NAMES:
            (cache / name).unlink(missing_ok=True)
            (cache / name).symlink_to(folder / name)
        return True
    lines = [line.strip() for line in done.stderr.splitlines() if not line.startswith("exit status")]
    reason = lines[-1] if lines else f"exit code {done.returncode}"
    say(f"  not possible here: {reason[:200]}")
    return False


def _build(cache: Path, say: Say) -> None:
    """One binary from `local/controlplane`, linked under both names."""
    go = shutil.which("go")
    if not go:
        raise PartFailed(
            "there is no kube-apiserver and no Go to build it with. Set KUBEBUILDER_ASSETS to a folder with etcd and "
            "kube-apiserver, or install Go 1.24 or later."
        )
    say("Kubernetes: building etcd and kube-apiserver from Go modules (once; about 6 minutes on 2 cores)")
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    facts = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X {version}.{name}={value}" for name, value in facts.items())])
    target = cache / "controlplane.new"
    log = cache / "build.log"
    started = time.monotonic()
    with log.open("wb") as output:
        build = subprocess.Popen(
            [go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(target), "."],
            cwd=SOURCE,
            env={**os.environ, "CGO_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            while build.poll() is None:
                if time.monotonic() - started > BUILD_SECONDS:
                    raise PartFailed(f"the build took more than {BUILD_SECONDS} s; see {log}")
                time.sleep(5)
                packages = sum(1 for line in log.read_bytes().splitlines() if not line.startswith(b"go: "))
                say(f"  {time.monotonic() - started:4.0f} s: {packages} of about {BUILD_PACKAGES} packages compiled")
        finally:
            if build.poll() is None:
                build.kill()
                build.wait()
    if build.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise PartFailed(f"the build of kube-apiserver failed:\n{tail}\n  (from {log})")
    target.rename(cache / "controlplane")
    for name in NAMES:
        (cache / name).unlink(missing_ok=True)
        (cache / name).symlink_to("controlplane")
    say(f"  built in {time.monotonic() - started:.0f} s")
