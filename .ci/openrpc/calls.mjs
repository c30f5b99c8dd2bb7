// Calls a coordinator with the client that was generated from its document, over HTTP and WebSocket,
// by position and by name: `node calls.mjs CLIENT DOCUMENT ENDPOINTS`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, file, addresses] = process.argv.slice(2);
const require = createRequire(resolve(folder, "package.json"));
const { default: Client } = require(resolve(folder, "build/index.js"));
const document = JSON.parse(readFileSync(file, "utf8"));
const endpoints = JSON.parse(readFileSync(addresses, "utf8"));

function open(type, address) {
  const { hostname: host, port } = new URL(address);
  const client = new Client({ transport: { type, host, port: Number(port) } });
  client.setDefaultTimeout(10_000);
  return client;
}

/** As the generated methods send them: an array. */
const byPosition = (client) => (method, named) => {
  const { params } = document.methods.find((one) => one.name === method);
  const given = params.map(({ name }) => named[name]);
  return client[method](...given.slice(0, given.findLastIndex((one) => one !== undefined) + 1));
};

/** The same client's way to send an object. */
const byName = (client) => (method, named) =>
  client.rpc.request({ method, params: named }, 10_000);

/** As clients do that were generated from the document with the one parameter `params`. */
const inParams = (client) => (method, named) =>
  client.rpc.request({ method: method.replace("_", "."), params: { params: named } }, 10_000);

function job(id, script, depends = []) {
  return {
    id, caller_id: 1, context_id: 1, script, script_type: "Osis", timeout: 60, retries: 0,
    env_vars: {}, prerequisites: [], depends,
  };
}

/** Everything that a client does with a flow, from nothing to its results. */
async function wholeStory(call, flowId) {
  const actor = { id: 1, pubkey: "key", address: ["127.0.0.1"] };
  assert.equal((await call("actor_create", { actor })).pubkey, "key");
  assert.deepEqual((await call("actor_load", { id: 1 })).address, ["127.0.0.1"]);
  const context = { id: 1, admins: [1], readers: [], executors: [1] };
  assert.equal((await call("context_create", { context })).id, 1);
  const runner = { id: 1, pubkey: "key", address: "::1", topic: "", local: true };
  assert.equal((await call("runner_create", { context_id: 1, runner })).local, true);

  const jobs = [job(flowId + 1, "#{ n: 41 }"), job(flowId + 2, "#{ n: 1 }", [flowId + 1])];
  const flow = { id: flowId, caller_id: 1, context_id: 1, jobs: [flowId + 1, flowId + 2], env_vars: {} };
  const key = { context_id: 1, id: flowId };
  assert.equal((await call("job_create", { context_id: 1, job: jobs[0] })).status, "Dispatched");
  assert.equal((await call("flow_submit", { context_id: 1, flow, jobs })).status, "Started");
  for (const patience = Date.now() + 30_000; ; ) {
    const { status } = await call("flow_status", key);
    if (status === "Finished") break;
    assert.ok(status === "Started" && Date.now() < patience, status);
  }
  const { result } = await call("flow_load", key);
  assert.equal(result[`${flowId + 1}.n`], "41");
  assert.deepEqual((await call("flow_dag", key)).edges, [[flowId + 1, flowId + 2]]);
  assert.ok((await call("job_list", { context_id: 1, status: "Finished" })).items.length > 1);

  const message = { id: flowId, caller_id: 1, context_id: 1, message: "hello", message_type: "Chat",
    message_format_type: "Text", timeout: 0, timeout_ack: 0, timeout_result: 0, job: [] };
  assert.equal((await call("message_create", { context_id: 1, message })).message, "hello");
  await assert.rejects(call("actor_load", { id: 404 }), { code: -32001 });
}

const over = { http: open("http", endpoints.http), ws: open("websocket", endpoints.ws) };
for (const { name } of document.methods) assert.equal(typeof over.http[name], "function", name);

let flow = 0;
for (const [transport, client] of Object.entries(over)) {
  for (const way of [byPosition, byName, inParams]) {
    await wholeStory(way(client), (flow += 100));
    console.log(`${transport}, ${way.name}: all answers as they should be`);
  }
}

// What a subscription pushes arrives as notifications of the method that the document names.
const { "x-notification": push } = document.methods.find(({ name }) => name === "events_subscribe");
const arrived = new Promise((resolve) => over.ws.onNotification(resolve));
const subscription = await over.ws.events_subscribe(0);
const notification = await arrived;
assert.equal(notification.method, push.method);
assert.equal(notification.params.subscription, subscription);
assert.equal(notification.params.result.seq, 1);
assert.equal(await over.ws.events_unsubscribe(subscription), true);
console.log("ws: a subscription pushes what it should");
over.ws.transport.close();
