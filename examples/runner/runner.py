"""A runner for Python jobs in about a hundred lines, to show the protocol.

    python3 examples/runner/runner.py ws://127.0.0.1:9653 CONTEXT_ID RUNNER_ID [SLOTS]

It attaches, is pushed jobs, reports on them, and stops what was cancelled. When it loses the
connection it goes on working, comes back, and says what it has in hand. SIGTERM drains it.
`muster runner` is the complete one, with limits on what jobs may do; this one trusts them.
"""

import asyncio
import signal
import sys
from pathlib import Path

from execute import execute

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients" / "python"))
from muster_rpc import Connection, RpcError  # noqa: E402


STALE = -32006  # the attempt is not ours any more


class Runner:
    def __init__(self, url, context_id, runner_id, slots):
        self.url, self.slots = url, slots
        self.name = {"context_id": context_id, "runner_id": runner_id}
        self.connection = None
        self.working = {}  # token: task, of every attempt that is being worked on
        self.ended = {}  # token: final report, of those whose end was not accepted yet
        self.draining = False

    async def run(self):
        """Attaches, again and again, until it was drained, or replaced by a newer one."""
        while True:
            try:
                self.connection = await Connection.open(self.url)
                reason = await self.serve()
                if reason.startswith(("drained", "replaced")):
                    return
            except OSError as err:
                reason = str(err)
            print(f"not attached: {reason}", flush=True)
            await asyncio.sleep(0.5)

    async def serve(self):
        # What is named here stays ours; what is left out is given out again at once.
        in_hand = [*self.working, *self.ended]
        told = await self.connection.subscribe(
            "runner.attach", **self.name, script_types=["Python"], slots=self.slots, in_hand=in_hand
        )
        print(f"attached with {len(in_hand)} in hand", flush=True)
        beating = asyncio.create_task(self.heartbeat())
        try:
            await self.report(*self.ended.values())
            if self.draining:
                await self.drain()
            async for notification in told:
                if notification["kind"] == "jobs":
                    await self.take(notification)
                elif notification["kind"] == "cancel":
                    self.stop(notification["tokens"])
                elif notification["kind"] == "detached":
                    return notification["reason"]
            return "the connection was lost"
        finally:
            beating.cancel()
            await self.connection.close()

    async def take(self, notification):
        jobs = {(job["caller_id"], job["id"]): job for job in notification["message"]["job"]}
        attempts = notification["attempts"]
        await self.report(*({"token": a["token"], "status": "Acknowledged"} for a in attempts))
        for attempt in attempts:
            job = jobs[attempt["caller_id"], attempt["job_id"]]
            self.working[attempt["token"]] = asyncio.create_task(self.work(job, attempt))

    async def work(self, job, attempt):
        """One attempt at one job, from `Started` to `Finished` or `Error`."""
        token, name = attempt["token"], f"job {job['id']} attempt {attempt['attempt']}"
        try:
            await self.report({"token": token, "status": "Started"})
            print(f"{name}: Started", flush=True)
            final = await execute(job, attempt)
        except asyncio.CancelledError:
            print(f"{name}: cancelled", flush=True)
            return  # it was taken away: nobody waits for a report
        except (OSError, ValueError, AttributeError) as err:
            final = {"status": "Error", "error": f"cannot be run: {err}"}
        finally:
            del self.working[token]
        print(f"{name}: {final['status']}", flush=True)
        self.ended[token] = {"token": token, **final}  # until accepted: the connection may be gone
        await self.report(self.ended[token])

    async def report(self, *reports):
        """Sends reports; a final one is over when it was accepted, or refused as stale."""
        if not reports:
            return
        try:
            reply = await self.connection.call("runner.report", **self.name, reports=list(reports))
        except (ConnectionError, RpcError) as err:
            print(f"not reported yet: {err}", flush=True)  # what is final is sent again
            return
        refused = {one["token"]: one for one in reply["refused"]}
        for report in reports:
            no = refused.get(report["token"])
            if no:
                print(f"refused: {no['message']} ({no['code']})", flush=True)
            if report["status"] in ("Finished", "Error") and (not no or no["code"] == STALE):
                self.ended.pop(report["token"], None)

    def stop(self, tokens):
        for token in tokens:
            self.ended.pop(token, None)
            if token in self.working:
                self.working[token].cancel()

    async def heartbeat(self):
        """An open socket is sign of life enough; this also asks what to stop, in case it was missed."""
        while True:
            await asyncio.sleep(10)
            await self.report(*self.ended.values())
            try:
                tokens = [*self.working, *self.ended]
                reply = await self.connection.call("runner.heartbeat", **self.name, tokens=tokens)
                self.stop(reply["cancel"])
            except (ConnectionError, RpcError) as err:
                print(f"no heartbeat: {err}", flush=True)

    async def drain(self):
        """Asks for nothing new; the coordinator detaches us when all we have has ended."""
        self.draining = True
        try:
            await self.connection.call("runner.drain", **self.name)
        except (AttributeError, ConnectionError):
            pass  # not attached: done after the next attach


async def main(url, context_id, runner_id, slots=1):
    runner = Runner(url, int(context_id), int(runner_id), int(slots))
    drain = lambda: asyncio.ensure_future(runner.drain())  # noqa: E731
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, drain)
    await runner.run()


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except RpcError as err:
        sys.exit(f"runner.py: {err}")
