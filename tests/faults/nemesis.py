"""Breaks things, at random times from a seed, and puts them right again.

Each thing that can break has a track of its own with a random generator of its own, so that a seed gives every track
the same sequence of faults whatever the others do.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from faults.installation import LEASE_SECONDS, Installation, Supervised
from faults.leases import break_one, outlives
from support.tcp_proxy import TcpProxy

BUSY = b"HTTP/1.1 503 Server Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Fault = Callable[[], Awaitable[bool]]
"""Injects a fault and heals it; False when there was nothing to break."""


class Part(Protocol):
    """What can be started again: the API server, the broker, the storage emulator."""

    def start(self) -> None: ...
    def ready(self) -> None: ...


class Nemesis:
    """Use `run` as a task; cancel it and wait for `healed`."""

    def __init__(self, installation: Installation, seed: str, pause: float) -> None:
        """`pause`: mean seconds between two faults of a track."""
        self._installation = installation
        self._seed = seed
        self._pause = pause
        self._restart: asyncio.Future[None] | None = None
        self.counts: Counter[str] = Counter()
        self.forgotten: list[str] = []
        """Leases that storage had granted and did not know after its restart."""

    async def run(self) -> None:
        """Break things until cancelled."""
        tracks = [self._track(program.name, self._faults_of(program)) for program in self._installation.programs]
        tracks += [
            self._track(f"network of {program.name}", self._network_faults(program), 0.5)
            for program in self._installation.programs
        ]
        tracks += [self._track("parts", self._part_faults(), 3), self._track("leases", [("break lease", self._break)])]
        async with asyncio.TaskGroup() as group:
            for track in tracks:
                group.create_task(track)

    async def healed(self) -> None:
        """Wait for the part that is just being started again."""
        if self._restart:
            await self._restart

    async def _track(self, name: str, faults: Sequence[tuple[str, Fault]], slower: float = 1) -> None:
        dice = random.Random(f"{self._seed} {name}")
        while True:
            await asyncio.sleep(dice.expovariate(1 / (self._pause * slower)))
            kind, fault = dice.choice(faults)
            if await fault():
                self.counts[kind] += 1

    def _faults_of(self, program: Supervised) -> list[tuple[str, Fault]]:
        async def send(number: int) -> bool:
            return program.signal(number)

        async def stop(seconds: float) -> bool:
            pid = program.pid
            if not program.signal(signal.SIGSTOP):
                return False
            try:
                await asyncio.sleep(seconds)
            finally:
                if program.pid == pid:
                    program.signal(signal.SIGCONT)
            return True

        async def kill_child() -> bool:
            children = program.children()
            with suppress(ProcessLookupError):
                if children:
                    os.kill(random.choice(children), signal.SIGKILL)
            return bool(children)

        kind = program.name.split("-")[0]
        faults: list[tuple[str, Fault]] = [
            (f"kill -9 {kind}", lambda: send(signal.SIGKILL)),
            (f"SIGTERM {kind}", lambda: send(signal.SIGTERM)),
            (f"SIGSTOP {kind} 2 s", lambda: stop(2)),
        ]
        if kind == "worker":
            faults += [("kill -9 a worker's child", kill_child)] * 4
            faults += [("SIGSTOP worker beyond its lease", lambda: stop(LEASE_SECONDS + 5))]
        return faults

    def _network_faults(self, program: Supervised) -> list[tuple[str, Fault]]:
        network = program.network
        storage = [network.blob, network.table]

        async def cut(proxies: Sequence[TcpProxy]) -> bool:
            for proxy in proxies:
                proxy.cut()
            return True

        async def for_a_while(proxies: Sequence[TcpProxy], name: str, seconds: float) -> bool:
            try:
                for proxy in proxies:
                    match name:
                        case "silent":
                            proxy.block()
                        case "slow":
                            proxy.delay = 0.3
                        case "busy":
                            proxy.refusal = BUSY
                await asyncio.sleep(seconds)
            finally:
                for proxy in proxies:
                    proxy.unblock()
                    proxy.delay, proxy.refusal = 0.0, None
            return True

        return [
            *[("cut broker connection", lambda: cut([network.broker]))] * 3,
            *[("cut storage connections", lambda: cut(storage))] * 3,
            ("cut API server connection", lambda: cut([network.api])),
            ("broker silent 4 s", lambda: for_a_while([network.broker], "silent", 4)),
            ("storage silent 4 s", lambda: for_a_while(storage, "silent", 4)),
            ("storage silent beyond the lease", lambda: for_a_while(storage, "silent", LEASE_SECONDS + 2)),
            ("storage busy (503) 2 s", lambda: for_a_while(storage, "busy", 2)),
            ("storage slow 3 s", lambda: for_a_while(storage, "slow", 3)),
            ("broker slow 3 s", lambda: for_a_while([network.broker], "slow", 3)),
        ]

    def _part_faults(self) -> list[tuple[str, Fault]]:
        api, broker = self._installation.api, self._installation.broker
        return [
            ("restart RabbitMQ", lambda: self._again(broker, broker.process.stop)),
            ("kill -9 RabbitMQ", lambda: self._again(broker, broker.process.kill)),
            ("restart Azurite", self._restart_storage),
            ("kill -9 kube-apiserver", lambda: self._again(api, api.server.kill)),
            ("kill -9 etcd", lambda: self._again(api, api.etcd.kill)),
        ]

    async def _restart_storage(self) -> bool:
        """An orderly restart, after which the emulator knows all that it has granted; the history says whether it does.

        After `kill -9` it lacks up to 5 s of acknowledged writes, which is how often it saves: nothing that Azure
        storage does, and nothing that JobLease can stand.
        """
        storage = self._installation.storage
        if not await outlives(self._installation.connection_string, lambda: self._again(storage, storage.stop)):
            self.forgotten.append(f"restart {self.counts['restart Azurite'] + 1} of Azurite")
        return True

    async def _again(self, part: Part, end: Callable[[], None]) -> bool:
        self._restart = asyncio.ensure_future(asyncio.to_thread(_start_again, part, end))
        await asyncio.shield(self._restart)
        return True

    async def _break(self) -> bool:
        return await break_one(self._installation.connection_string)


def _start_again(part: Part, end: Callable[[], None]) -> None:
    end()
    part.start()
    part.ready()
