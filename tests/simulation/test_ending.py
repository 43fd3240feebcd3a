"""What no play of a seed is likely to come to: scripted, on the same parts."""

import asyncio
import random

from simulation.loop import VirtualLoop, virtual_time
from simulation.programs import RunningOperator, Services, seams


def test_an_operator_that_is_asked_to_end_does_so_though_the_broker_is_away() -> None:
    """In the middle of publishing a job: what it has to tell cannot be told either, and that must not be the last."""
    dice = random.Random(1)
    loop = VirtualLoop(dice)
    with virtual_time(loop, dice), seams(loop):
        services = Services(loop, dice)

        async def play() -> bool:
            operator = RunningOperator(services, "operator-1", 1)
            await asyncio.sleep(10)
            services.network.cut.add(("operator-1", "broker"))
            operator.broker.lose()
            written: asyncio.Future[None] = loop.create_future()

            def note(_program: str, _what: str) -> bool:
                written.set_result(None)
                return False

            services.network.traps.append(("write uid", note))
            parameters = {"steps": 1, "seconds": 1, "failures": 0}
            services.cluster.create("job", {"handler": "witness", "parameters": parameters})
            await written
            await asyncio.sleep(0.085)  # the answer has come, telling it has failed, and the message is being sent
            operator.terminate()
            await asyncio.sleep(10)
            return operator.program.alive

        try:
            assert not loop.run_until_complete(play())
        finally:
            loop.close()
