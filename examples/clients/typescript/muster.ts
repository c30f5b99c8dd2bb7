/** JSON-RPC 2.0 over WebSocket, with subscriptions, and the types that flow.ts uses. */

import WebSocket from "ws";

export type Status =
  | "Dispatched"
  | "WaitingForPrerequisites"
  | "Started"
  | "Error"
  | "Finished";

export interface Job {
  id: number;
  caller_id: number;
  context_id: number;
  script: string;
  /** `Osis` and `Sal` are Rhai. */
  script_type: "Osis" | "Sal" | "V" | "Python";
  /** Bound on one attempt, seconds; 0: none. */
  timeout: number;
  /** Attempts after the first. */
  retries: number;
  env_vars: Record<string, string>;
  prerequisites: string[];
  depends: number[];
}

export interface Flow {
  id: number;
  caller_id: number;
  context_id: number;
  jobs: number[];
  env_vars: Record<string, string>;
}

export interface StoredFlow extends Flow {
  status: Status;
  result: Record<string, string>;
  /** Unix seconds. */
  created_at: number;
  updated_at: number;
}

export interface StatusEvent {
  seq: number;
  /** Unix milliseconds. */
  at: number;
  kind: "flow.status" | "job.status";
  context_id: number;
  /** Such as `flow/1/7` or `job/1/42/3`. */
  subject: string;
  data: { from: Status; to: Status; attempt?: number; reason?: string };
}

/** The methods that the example calls: what they take, and what they answer. */
export interface Methods {
  "actor.create": [{ actor: { id: number; pubkey: string; address: string[] } }, unknown];
  "context.create": [
    { context: { id: number; admins: number[]; readers: number[]; executors: number[] } },
    unknown,
  ];
  "runner.create": [
    {
      context_id: number;
      runner: { id: number; pubkey: string; address: string; topic: string; local: boolean };
    },
    unknown,
  ];
  "flow.submit": [{ context_id: number; flow: Flow; jobs: Job[] }, StoredFlow];
  "flow.load": [{ context_id: number; id: number }, StoredFlow];
  "flow.subscribe": [{ context_id: number; id: number; since?: number }, string];
}

/** The coordinator answered with an error. */
export class RpcError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data: unknown,
  ) {
    super(`${message} (${code}): ${JSON.stringify(data)}`);
  }
}

interface Waiting {
  resolve(result: never): void;
  reject(reason: Error): void;
}

/** What a subscription pushes: as much as has arrived, and whoever waits for more. */
class Items {
  private readonly arrived: unknown[] = [];
  private wake: () => void = () => {};
  private ended = false;

  push(item: unknown): void {
    this.arrived.push(item);
    this.wake();
  }

  end(): void {
    this.ended = true;
    this.wake();
  }

  async *read(): AsyncGenerator<unknown> {
    while (true) {
      while (this.arrived.length > 0) yield this.arrived.shift();
      if (this.ended) return;
      await new Promise<void>((wake) => (this.wake = wake));
    }
  }
}

/** One connection to the coordinator. */
export class Muster {
  private readonly answers = new Map<number, Waiting>();
  private readonly subscriptions = new Map<string, Items>();
  private calls = 0;

  private constructor(private readonly socket: WebSocket) {
    socket.on("message", (data) => this.hear(data.toString()));
    socket.on("close", () => this.end());
  }

  static open(url: string): Promise<Muster> {
    const socket = new WebSocket(url);
    return new Promise((resolve, reject) => {
      socket.once("open", () => resolve(new Muster(socket)));
      socket.once("error", reject);
    });
  }

  call<M extends keyof Methods>(method: M, params: Methods[M][0]): Promise<Methods[M][1]> {
    const id = ++this.calls;
    this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return new Promise((resolve, reject) => this.answers.set(id, { resolve, reject }));
  }

  /** Subscribes; what is pushed comes in order, until the connection ends. */
  async subscribe<T>(
    method: "flow.subscribe",
    params: Methods["flow.subscribe"][0],
  ): Promise<AsyncGenerator<T>> {
    const subscription = await this.call(method, params);
    return this.items(subscription).read() as AsyncGenerator<T>;
  }

  close(): void {
    this.socket.close();
  }

  /** Made by the first who asks: a notification may be read before `subscribe` goes on. */
  private items(subscription: string): Items {
    let items = this.subscriptions.get(subscription);
    if (items === undefined) {
      items = new Items();
      this.subscriptions.set(subscription, items);
    }
    return items;
  }

  private hear(text: string): void {
    const message = JSON.parse(text);
    if (message.method !== undefined) {
      this.items(message.params.subscription).push(message.params.result);
      return;
    }
    const waiting = this.answers.get(message.id);
    this.answers.delete(message.id);
    if (message.error !== undefined) {
      const { code, message: what, data } = message.error;
      waiting?.reject(new RpcError(code, what, data));
    } else {
      waiting?.resolve(message.result as never);
    }
  }

  private end(): void {
    for (const waiting of this.answers.values()) waiting.reject(new Error("the connection was lost"));
    for (const items of this.subscriptions.values()) items.end();
    this.answers.clear();
  }
}
