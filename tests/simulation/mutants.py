"""Deliberate defects, each a small change of one line or two. The simulation must notice every one."""

import importlib.machinery
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` is in the module's source exactly once, and becomes `new`."""

    name: str
    module: str
    old: str
    new: str


MUTANTS = [
    Mutant("no If-Match", "joblease/trail.py", 'Write("replace", row, before.etag) if before.etag', 'Write("replace", row) if before.etag'),
    Mutant("own lost answer is not known", "joblease/trail.py", "if current.write == after.write:", "if False:"),
    Mutant("lost answer below a later write is not known", "joblease/trail.py", "raise HeadChanged(current, written if ours else ())", "raise HeadChanged(current)"),
    Mutant("a sequence number twice", "joblease/trail.py", "sequence=before.sequence + len(events),", "sequence=before.sequence + min(len(events), 1),"),
    Mutant("epoch is not raised", "joblease_worker/claim.py", '"epoch": head.epoch + 1', '"epoch": head.epoch'),
    Mutant("attempt is not raised", "joblease_worker/claim.py", "attempt = head.attempt + 1", "attempt = head.attempt or 1"),
    Mutant("a running job is claimed as a new one", "joblease_worker/claim.py", "if head.state is State.RUNNING:", "if False:"),
    Mutant("an order to cancel is not seen at the claim", "joblease_worker/claim.py", "if head.cancel_requested:", "if False:"),
    Mutant("deadline without its margin", "joblease_worker/keeper.py", "request_sent + self._settings.lease_seconds - self._settings.lease_safety_seconds", "request_sent + self._settings.lease_seconds * 2"),
    Mutant("no renewal", "joblease_worker/keeper.py", "if lease.renew_at <= boot_seconds():\n                await self._renew(lease)", "if False:\n                await self._renew(lease)"),
    Mutant("guardian hears of no deadline", "joblease_worker/keeper.py", "if lease.pid is not None:\n            latest", "if False:\n            latest"),
    Mutant("guardian hears of the first deadline only", "joblease_worker/keeper.py", "self._deadline(sent)\n                lease.renew_at = boot_seconds() + self._settings.renew_seconds\n                self._tell_guardian(lease)", "self._deadline(sent)\n                lease.renew_at = boot_seconds() + self._settings.renew_seconds"),
    Mutant("a lease is kept after its release", "joblease_worker/keeper.py", "            self._leases.discard(lease)\n            return True", "            return True"),
    Mutant("leases are not given back", "joblease_worker/keeper.py", "if not self._drop(lease, LeaseState.RELEASED):\n            return", "return"),
    Mutant("slots are not asked for", "joblease_worker/locks.py", "if message.limit:", "if False:"),
    Mutant("another job's lease", "joblease_worker/locks.py", "return await keeper.acquire(job_blob(job_id), on_lost)\n    except", "return await keeper.acquire(job_blob(job_id + str(id(on_lost))), on_lost, create=True)\n    except"),
    Mutant("the handler is not tied to its leases", "joblease_worker/run.py", "self._leases.guard(process.pid)", "pass"),
    Mutant("a stranger's head is written over", "joblease_worker/record.py", "if current.epoch != self.head.epoch or current.state is not State.RUNNING:", "if False:"),
    Mutant("cancelled is no outcome", "joblease_worker/closing.py", "if why is Why.CANCEL:", "if False:"),
    Mutant("a drained job has failed", "joblease_worker/closing.py", "if why is Why.DRAIN:", "if False:"),
    Mutant("a lost lease is an ordinary end", "joblease_worker/run.py", 'if self.why is Why.LOST:\n                    await self._flush()\n                    raise Fenced("the lease was lost")', "if False:\n                    pass"),
    Mutant("steps are written twice", "joblease_worker/run.py", "            del self._unwritten[:count]\n", ""),
    Mutant("steps of a broken write are forgotten", "joblease_worker/run.py", "return await self._record.write([*self._unwritten, end.event], **end.changes)", "return await self._record.write([end.event], **end.changes)"),
    Mutant("trouble is for good", "joblease/errors.py", "return ErrorClass.PERMANENT if refused else ErrorClass.TRANSIENT", "return ErrorClass.PERMANENT"),
    Mutant("no answer is for good", "joblease/errors.py", "if isinstance(error, _NO_ANSWER):\n        return ErrorClass.TRANSIENT", "if False:\n        return ErrorClass.TRANSIENT"),
    Mutant("slots are never free again", "joblease_operator/engine.py", "self._admissions.leave(job)  # first of all: somebody waits for this slot", "pass"),
    Mutant("no blob before the trail", "joblease_operator/engine.py", "await self._blobs.create(job_blob(job.uid), known)", "pass"),
    Mutant("the operator writes over a claim", "joblease_operator/record.py", "while before is None or (head.state, head.epoch) == (before, epoch):", "while True:"),
    Mutant("a held job is lost", "joblease_operator/ending.py", "if await self._blobs.holder(job_blob(head.job_id)) is not None:", "if False:"),
    Mutant("lost jobs are not waited for", "joblease_operator/ending.py", "return time.monotonic() - since >= self._lost_after", "return True"),
    Mutant("nobody looks after silent jobs", "joblease_operator/resync.py", "silent = time.monotonic() - job.last_news\n", "return\n"),
    Mutant("lost messages are not missed", "joblease_operator/pools.py", "await self._look_at(queue, len(jobs) - messages)", "pass"),
    Mutant("blobs are not swept", "joblease_operator/sweeper.py", "if job is None or job.finished:\n                self._left", "if False:\n                self._left"),
    Mutant("deletions are not missed", "joblease_operator/drift.py", "if await self._fewer():\n                    await asyncio.sleep", "if False:\n                    await asyncio.sleep"),
    Mutant("what is added during its turn is lost", "joblease_operator/queue.py", "if key in self._marked:\n                self._ready.put_nowait(key)", "self._marked.discard(key)"),
    Mutant("an outcome's status is not written", "joblease_operator/status_writer.py", "self._jobs[job.uid] = job\n            self._queue.add(job.uid, 0 if job.finished", "if job.finished:\n                return\n            self._jobs[job.uid] = job\n            self._queue.add(job.uid, 0 if job.finished"),
    Mutant("old news counts", "joblease_operator/job.py", "if self.finished or event.sequence <= self.sequence:", "if False:"),
    Mutant("a failed publish is forgotten", "joblease_operator/publisher.py", "        while job.unannounced:\n            await self.publish_event(job.unannounced[0], _trace(job))\n            job.unannounced.pop(0)", "        while job.unannounced:\n            await self.publish_event(job.unannounced.pop(0), _trace(job))"),
    Mutant("acknowledged before it is safe", "joblease_worker/settlement.py", "                await self._make_safe(delivery, verdict)\n                break", "                await delivery.ack()\n                await self._make_safe(delivery, verdict)\n                break"),
    Mutant("a hint is believed without a look", "joblease_worker/claim.py", "            head = changed.current\n", "            return Claim(changed.current, [], taken_over)\n"),
]  # fmt: skip


class NotThere(Exception):
    """The code has changed: a mutant's text is not in it exactly once."""


def breed(mutant: Mutant) -> None:
    """Have the defect in this process, whose modules are imported from now on."""
    plain: Any = importlib.machinery.SourceFileLoader.get_data

    def get_data(self: Any, path: str) -> bytes:
        data: bytes = plain(self, path)
        if path.endswith(f"/{mutant.module}"):
            text = data.decode()
            if text.count(mutant.old) != 1:
                raise NotThere(f"{mutant.name}: {mutant.module} has {text.count(mutant.old)} times {mutant.old!r}")
            data = text.replace(mutant.old, mutant.new).encode()
        return data

    def path_stats(self: Any, path: str) -> Any:
        raise OSError("no cached bytecode")

    importlib.machinery.SourceFileLoader.get_data = get_data  # type: ignore[method-assign]
    importlib.machinery.SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]
