"""WatchEvents: the log as a stream that resumes where it broke off, each event exactly once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from crane.errors import CraneError, ErrorCode
from crane.v1 import control_pb2 as pb
from cranectld.core.events import Logged
from cranectld.rpc.feed import Translator
from cranectld.rpc.pace import Pace
from cranectld.rpc.requests import within
from cranectld.shell.loop import Loop
from cranectld.store.api import Store

READ_AT_ONCE = 200
"""Log events read at a time while catching up."""
MAX_QUEUED = 20_000
"""ClusterEvents that may wait for a watcher; beyond, its stream ends and it may resume."""
MAX_WATCHERS = 1000
MAX_JOBS = 10_000


class _Watcher:
    """One open stream: what it still has to be sent."""

    def __init__(self, job_ids: frozenset[int]) -> None:
        self.job_ids = job_ids
        self.waiting: deque[tuple[int, list[pb.ClusterEvent]]] = deque()
        self.queued = 0
        self.slow = False
        self.wake = asyncio.Event()

    def wants(self, event: pb.ClusterEvent) -> bool:
        """Whether the event is about one of its jobs; without job ids, everything is."""
        if not self.job_ids:
            return True
        if not event.HasField("job"):
            return False
        job = event.job
        if job.job_id in self.job_ids or job.array_job_id in self.job_ids:
            return True
        if job.count > 1 and not job.array_job_id:
            return any(job.job_id <= wanted < job.job_id + job.count for wanted in self.job_ids)
        return False

    def push(self, seq: int, events: list[pb.ClusterEvent]) -> None:
        """Queue what a batch brought."""
        if self.slow:
            return
        if self.queued + len(events) > MAX_QUEUED:
            self.slow = True
        else:
            self.waiting.append((seq, events))
            self.queued += len(events)
        self.wake.set()


class Watch:
    """Serves every watcher from one translation of the log."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self._loop = loop
        self._store = store
        self._translator = Translator(loop.state)
        self._watchers: dict[_Watcher, None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watch-reader")
        self._closing = False
        loop.on_durable.append(self._durable)

    def close(self) -> None:
        """End every stream."""
        self._closing = True
        for watcher in self._watchers:
            watcher.wake.set()
        self._thread.shutdown(wait=True)

    def __len__(self) -> int:
        return len(self._watchers)

    async def stream(self, request: pb.WatchEventsRequest) -> AsyncIterator[pb.WatchEventsReply]:
        """Replies until the client leaves, or is so slow that it must resume (from the last `seq`).

        The first reply after catching up may be empty: its `seq` says where the stream stands.
        """
        within("job ids to watch", len(request.job_ids), MAX_JOBS)
        within("open event streams", len(self._watchers), MAX_WATCHERS - 1)
        live_from = self._loop.durable_seq
        since = request.since_seq
        if since > live_from:
            raise CraneError(
                ErrorCode.STALE,
                f"events after {since} were asked for, the log ends with {live_from}",
                "the controller's log is another one, or was restored: list the jobs anew",
            )
        watcher = _Watcher(frozenset(request.job_ids))
        if not since and not request.from_start:
            since = live_from
        self._watchers[watcher] = None
        try:
            if since < live_from:
                async for reply in self._catch_up(watcher, since, live_from):
                    yield reply
            yield pb.WatchEventsReply(seq=max(live_from, since))
            while True:
                while watcher.waiting:
                    seq, events = watcher.waiting.popleft()
                    watcher.queued -= len(events)
                    wanted = [e for e in events if e.seq > since and watcher.wants(e)]
                    if wanted:
                        yield pb.WatchEventsReply(events=wanted, seq=seq)
                if watcher.slow or self._closing:
                    return
                watcher.wake.clear()
                await watcher.wake.wait()
        finally:
            del self._watchers[watcher]

    def _durable(self, batch: Sequence[Logged]) -> None:
        """Listener of the loop: translate even when nobody watches, to know the array tasks."""
        events = [event for logged in batch for event in self._translator.translate(logged)]
        if events:
            for watcher in self._watchers:
                watcher.push(batch[-1].seq, events)

    async def _catch_up(
        self, watcher: _Watcher, since: int, until: int
    ) -> AsyncIterator[pb.WatchEventsReply]:
        """Events after `since` up to `until`, from the store."""
        aio = asyncio.get_running_loop()
        translator = Translator(self._loop.state, self._translator)
        source = self._store.read(since + 1)
        pace = Pace()
        try:
            while since < until and not self._closing:
                part = await aio.run_in_executor(self._thread, _take, source)
                if not part:
                    return
                wanted: list[pb.ClusterEvent] = []
                for logged in part:
                    if logged.seq > until:
                        break
                    wanted.extend(e for e in translator.translate(logged) if watcher.wants(e))
                    since = logged.seq
                    if pace.due:
                        await pace.breathe()
                if wanted:
                    yield pb.WatchEventsReply(events=wanted, seq=since)
        finally:
            self._thread.submit(_close, source)


def _take(source: Iterator[Logged]) -> list[Logged]:
    return list(islice(source, READ_AT_ONCE))


def _close(source: Iterator[Logged]) -> None:
    """Release what a reader of the log holds, in the thread that read."""
    if isinstance(source, Generator):
        source.close()
