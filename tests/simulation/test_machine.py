"""What stands still on a simulated machine, and for how long."""

import asyncio
import random

from simulation.handlers import Machine, Witness
from simulation.loop import Program, VirtualLoop, virtual_time


def test_a_suspended_machine_sleeps_on_when_a_program_on_it_is_continued() -> None:
    """SIGCONT wakes no machine: a worker that ran there would take leases that no guardian watches."""
    dice = random.Random(1)
    loop = VirtualLoop(dice)
    with virtual_time(loop, dice):
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                ticks.append(loop.real)

        async def play() -> None:
            worker = Program("worker", loop)
            machine = Machine(worker, Witness(loop), dice)
            worker.start(tick())
            await asyncio.sleep(2.5)
            with machine.suspended():
                with worker.standing():
                    await asyncio.sleep(3)
                await asyncio.sleep(3)
            await asyncio.sleep(1)

        try:
            loop.run_until_complete(play())
        finally:
            loop.close()
    before, after = [each for each in ticks if each < 3], [each for each in ticks if each >= 3]
    assert len(before) == 2
    assert after
    assert min(after) >= 8.5
