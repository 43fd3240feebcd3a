"""The whole system under faults: whatever breaks, and whenever, the checker finds nothing.

`make faults` runs it for as long as JOBLEASE_FAULTS_SECONDS says. To repeat a run, set JOBLEASE_FAULTS_SEED to the seed
that it has printed, or to several with commas between them. JOBLEASE_FAULTS_NUISANCES names the nuisances among the
jobs, of `faults.kinds.NUISANCES` and with commas between them: all by default, none when it is empty.
"""

import asyncio
import os
import secrets
import time
from collections import Counter
from pathlib import Path

import pytest
from faults import kinds
from faults.checker import check
from faults.collector import Collector
from faults.history import History
from faults.installation import Installation
from faults.nemesis import Nemesis
from faults.workload import Workload
from joblease_local.azurite import require_azurite
from joblease_local.binaries import kubernetes_binaries
from joblease_local.rabbitmq import require_rabbitmq
from support.parts import CACHE, need, say

SECONDS = float(os.environ.get("JOBLEASE_FAULTS_SECONDS", "15"))
SEED = os.environ.get("JOBLEASE_FAULTS_SEED")
SEEDS = SEED.split(",") if SEED else ["joblease", pytest.param(secrets.token_hex(4), id="random")]
CHOSEN = os.environ.get("JOBLEASE_FAULTS_NUISANCES")
NUISANCES = kinds.NUISANCES if CHOSEN is None else list(filter(None, CHOSEN.split(",")))
PATIENCE_SECONDS = 240
LEAST_PAUSE_SECONDS = 8
"""Mean time between two faults of a part, on a machine where the installation runs its first job sooner than that. On a
slower one it is as long as that took: or nothing would ever run, and faults would find nothing."""


@pytest.mark.timeout(2 * SECONDS + 4 * PATIENCE_SECONDS)
@pytest.mark.parametrize("seed", SEEDS)
async def test_the_guarantee_holds(seed: str, tmp_path: Path) -> None:
    kubernetes = need(lambda: kubernetes_binaries(CACHE / "bin", say))
    rabbitmq = need(lambda: require_rabbitmq(say))
    azurite = need(lambda: require_azurite(CACHE / "azurite", say))
    async with Installation(tmp_path, kubernetes, rabbitmq, azurite, workers=4) as installation:
        collector = Collector(installation)
        await collector.tap()
        installation.start()
        workload = Workload(installation, seed, pause=0.7, nuisances=NUISANCES)
        pause = max(LEAST_PAUSE_SECONDS, await workload.first(PATIENCE_SECONDS))
        nemesis = Nemesis(installation, seed, pause)
        await _for_seconds(SECONDS, workload.run(), nemesis.run())
        await nemesis.healed()
        healed_at = time.monotonic()
        await workload.finish(PATIENCE_SECONDS)
        history = await collector.collect(workload.jobs, PATIENCE_SECONDS)
        history.forgotten = nemesis.forgotten
        report(seed, nemesis.counts, history, time.monotonic() - healed_at)
        print(f"mean time between two faults of a part: {pause:.0f} s")
        assert nemesis.counts.total() >= SECONDS / pause
        violations = check(history)
        if violations:
            pytest.fail("\n".join([f"{len(violations)} violations:", *violations[:50]]))


async def _for_seconds(seconds: float, *works: object) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def report(seed: str, faults: Counter[str], history: History, quiet_after: float) -> None:
    """What was broken and what came of it, for people."""
    outcomes = Counter(str(head.state) for head in history.heads.values())
    print(f"\nseed {seed}: {faults.total()} faults, {len(history.jobs)} jobs, {len(history.runs())} runs")
    print("faults:  ", ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())))
    print("outcomes:", ", ".join(f"{state} {count}" for state, count in sorted(outcomes.items())))
    print(f"all quiet {quiet_after:.0f} s after the last fault")
