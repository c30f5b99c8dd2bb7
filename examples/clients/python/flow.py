"""Creates a flow of three jobs, starts it, watches it until it has ended, and prints its results.

    muster serve --local-runner              # in one terminal
    python3 examples/clients/python/flow.py  # in another; takes the address of the WebSocket

Needs nothing but Python 3.9. The jobs are Rhai scripts, which the coordinator's own runner runs.
"""

import asyncio
import sys

from muster_rpc import Connection, RpcError

CONTEXT, ACTOR, RUNNER, FLOW = 10, 10, 10, 10


def job(number, script, depends=()):
    return {
        "id": number,
        "caller_id": ACTOR,
        "context_id": CONTEXT,
        "script": script,
        "script_type": "Osis",  # Rhai
        "timeout": 60,  # seconds for one attempt
        "retries": 1,  # attempts after the first
        "env_vars": {},
        "prerequisites": [],
        "depends": list(depends),
    }


async def prepare(connection):
    """Who asks (an actor), the tenant it works in (a context), and who runs the jobs (a runner)."""
    actor = {"id": ACTOR, "pubkey": "example", "address": ["127.0.0.1"]}
    await connection.call("actor.create", actor=actor)
    context = {"id": CONTEXT, "admins": [ACTOR], "readers": [], "executors": [ACTOR]}
    await connection.call("context.create", context=context)
    runner = {"id": RUNNER, "pubkey": "example", "address": "127.0.0.1", "topic": "", "local": True}
    await connection.call("runner.create", context_id=CONTEXT, runner=runner)


async def main(url):
    connection = await Connection.open(url)
    await prepare(connection)
    # Subscribed before it is submitted, so that nothing is missed.
    events = await connection.subscribe("flow.subscribe", context_id=CONTEXT, id=FLOW)
    jobs = [
        job(1, '#{ value: 6 * env.FACTOR.parse_int() }'),
        job(2, '#{ value: 20 + 22 }'),
        job(3, '#{ sum: inputs["1"].value.parse_int() + inputs["2"].value.parse_int() }', (1, 2)),
    ]
    flow = {
        "id": FLOW,
        "caller_id": ACTOR,
        "context_id": CONTEXT,
        "jobs": [one["id"] for one in jobs],
        "env_vars": {"FACTOR": "7"},
    }
    await connection.call("flow.submit", context_id=CONTEXT, flow=flow, jobs=jobs)

    status = None
    async for event in events:
        if not event.get("kind", "").endswith(".status"):
            continue
        change = event["data"]
        print(f"{event['subject']}: {change['from']} -> {change['to']}")
        if event["kind"] == "flow.status" and change["to"] in ("Finished", "Error"):
            status = change["to"]
            break
    if status is None:
        sys.exit("the connection ended before the flow")

    ended = await connection.call("flow.load", context_id=CONTEXT, id=FLOW)
    for name, value in sorted(ended["result"].items()):
        if value:  # stdout and stderr of these jobs are empty
            print(f"{name} = {value}")
    await connection.close()
    return 0 if status == "Finished" else 8


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9653")))
    except (OSError, RpcError) as err:
        sys.exit(f"flow.py: {err}")
