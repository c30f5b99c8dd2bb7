/**
 * Creates a flow of three jobs, starts it, watches it until it has ended, and prints its results.
 *
 *     muster serve --local-runner                 # in one terminal
 *     cd examples/clients/typescript              # in another
 *     npm ci && npm run build && npm start        # `npm start -- ws://…` for another address
 */

import { Job, Muster, StatusEvent } from "./muster.js";

const [context, actor, runner, flow] = [30, 30, 30, 30];

function job(id: number, script: string, depends: number[] = []): Job {
  return {
    id,
    caller_id: actor,
    context_id: context,
    script,
    script_type: "Osis",
    timeout: 60,
    retries: 1,
    env_vars: {},
    prerequisites: [],
    depends,
  };
}

/** Who asks (an actor), the tenant it works in (a context), and who runs the jobs (a runner). */
async function prepare(muster: Muster): Promise<void> {
  await muster.call("actor.create", {
    actor: { id: actor, pubkey: "example", address: ["127.0.0.1"] },
  });
  await muster.call("context.create", {
    context: { id: context, admins: [actor], readers: [], executors: [actor] },
  });
  await muster.call("runner.create", {
    context_id: context,
    runner: { id: runner, pubkey: "example", address: "127.0.0.1", topic: "", local: true },
  });
}

async function main(url: string): Promise<number> {
  const muster = await Muster.open(url);
  try {
    await prepare(muster);
    // Subscribed before it is submitted, so that nothing is missed.
    const key = { context_id: context, id: flow };
    const events = await muster.subscribe<StatusEvent>("flow.subscribe", key);
    const jobs = [
      job(1, "#{ value: 6 * env.FACTOR.parse_int() }"),
      job(2, "#{ value: 20 + 22 }"),
      job(3, '#{ sum: inputs["1"].value.parse_int() + inputs["2"].value.parse_int() }', [1, 2]),
    ];
    await muster.call("flow.submit", {
      context_id: context,
      flow: {
        id: flow,
        caller_id: actor,
        context_id: context,
        jobs: jobs.map((job) => job.id),
        env_vars: { FACTOR: "7" },
      },
      jobs,
    });
    for await (const { kind, subject, data } of events) {
      if (kind !== "flow.status" && kind !== "job.status") continue;
      console.log(`${subject}: ${data.from} -> ${data.to}`);
      if (kind === "flow.status" && (data.to === "Finished" || data.to === "Error")) break;
    }
    const ended = await muster.call("flow.load", key);
    for (const [name, value] of Object.entries(ended.result)) {
      if (value !== "") console.log(`${name} = ${value}`);
    }
    return ended.status === "Finished" ? 0 : 8;
  } finally {
    muster.close();
  }
}

main(process.argv[2] ?? "ws://127.0.0.1:9653").then(
  (code) => (process.exitCode = code),
  (err: Error) => {
    console.error(`flow: ${err.message}`);
    process.exitCode = 1;
  },
);
