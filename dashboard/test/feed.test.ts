import { beforeEach, describe, expect, test } from "vitest";
import { backoff, Feed, type Socket, type State } from "../src/feed";
import type { Reading } from "../src/reading";

class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: unknown[] = [];
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.onclose?.({ code: 1000, reason: "" });
  }
  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

const reading = (n: number): Reading => ({
  device: "van",
  time: `2026-11-21T22:00:00.00000${n}Z`,
  values: { n },
});

/** A feed in a world where time passes only when a test says so. */
function world() {
  const sockets: FakeSocket[] = [];
  const alarms = new Map<() => void, number>();
  const states: [State, string][] = [];
  const heard: [number, boolean][] = [];
  const it = {
    sockets,
    states,
    heard,
    missed: 0,
    refusal: undefined as string | undefined,
    get socket() {
      return sockets[sockets.length - 1] as FakeSocket;
    },
    get state() {
      return states[states.length - 1];
    },
    /** Lets pass whatever is waited for; answers how long that was. */
    pass(): number {
      const [alarm] = alarms;
      if (alarm === undefined) throw new Error("nothing is waited for");
      alarms.delete(alarm[0]);
      alarm[0]();
      return alarm[1];
    },
    waiting: () => alarms.size,
    open() {
      it.socket.onopen?.();
      return it.socket;
    },
    feed: undefined as unknown as Feed,
  };
  it.feed = new Feed(
    {
      connect: () => {
        sockets.push(new FakeSocket());
        return it.socket;
      },
      after: (ms, fire) => {
        alarms.set(fire, ms);
        return () => alarms.delete(fire);
      },
      random: () => 1,
      refusal: () => Promise.resolve(it.refusal),
    },
    {
      readings: (batch, live) => {
        for (const { values } of batch) heard.push([values["n"] as number, live]);
      },
      state: (state, detail) => states.push([state, detail]),
      missed: () => it.missed++,
    },
  );
  return it;
}

let w: ReturnType<typeof world>;
beforeEach(() => {
  w = world();
  w.feed.start();
});

describe("the first subscription", () => {
  test("asks for everything, latest values first", () => {
    expect(w.open().sent).toEqual([{ op: "subscribe", id: "all", snapshot: true }]);
  });

  test("tells a snapshot from news", () => {
    w.open().say({ id: "all", event: "snapshot", readings: [reading(1)] });
    w.socket.say({ id: "all", event: "live", cursor: "c1" });
    w.socket.say({ id: "all", cursor: "c2", readings: [reading(2), reading(3)] });
    expect(w.heard).toEqual([[1, false], [2, true], [3, true]]);
    expect(w.state).toEqual(["live", ""]);
    expect(w.feed.cursor).toBe("c2");
  });

  test("does not resume from the midst of a snapshot", () => {
    w.open().say({ id: "all", event: "snapshot", cursor: "c1", readings: [reading(1)] });
    w.socket.close();
    w.pass();
    expect(w.open().sent).toEqual([{ op: "subscribe", id: "all", snapshot: true }]);
  });

  test("takes the cursor of a heartbeat and passes over what is not its own", () => {
    w.open().say({ id: "all", cursor: "c5", readings: [] });
    w.socket.say({ id: "other", cursor: "c9", readings: [reading(9)] });
    w.socket.onmessage?.({ data: "not JSON" });
    w.socket.onmessage?.({ data: new ArrayBuffer(1) });
    expect(w.feed.cursor).toBe("c5");
    expect(w.heard).toEqual([]);
  });
});

describe("after a break", () => {
  beforeEach(() => {
    w.open().say({ id: "all", event: "live", cursor: "c7" });
    w.socket.onclose?.({ code: 1001, reason: "this instance stops" });
  });

  test("says so and goes on from the last cursor", () => {
    expect(w.state).toEqual(["reconnecting", "this instance stops"]);
    w.pass();
    expect(w.open().sent).toEqual([{ op: "subscribe", id: "all", from: "c7" }]);
    expect(w.state).toEqual(["behind", "catching up"]);
    expect(w.feed.resumes).toBe(1);
    w.socket.say({ id: "all", event: "live", cursor: "c8" });
    expect(w.state).toEqual(["live", ""]);
  });

  test("waits longer each time, and not for ever", () => {
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      waits.push(w.pass());
      w.socket.close();
    }
    expect(waits).toEqual([400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000, 15_000]);
    w.pass();
    w.open().say({ id: "all", cursor: "c8", readings: [reading(1)] });
    w.socket.close();
    expect(w.pass()).toBe(400);
  });

  test("is called to try at once, and then once only", () => {
    w.feed.start();
    w.feed.start();
    expect(w.sockets.length).toBe(2);
    expect(w.waiting()).toBe(0);
  });

  test("begins anew if the cursor is gone", () => {
    w.pass();
    w.open().say({ id: "all", event: "error", status: 410, detail: "the cursor is gone" });
    expect(w.socket.sent[1]).toEqual({ op: "subscribe", id: "all", snapshot: true });
    expect(w.missed).toBe(1);
  });

  test("goes on behind a gap", () => {
    w.pass();
    w.open().say({ id: "all", event: "gap", from: "c7", cursor: "c9", detail: "what lay between is gone" });
    expect(w.state).toEqual(["behind", "what lay between is gone"]);
    expect(w.missed).toBe(1);
    expect(w.feed.cursor).toBe("c9");
  });
});

test("skipped readings are told, and forgotten when it is calm again", () => {
  w.open().say({ id: "all", event: "live", cursor: "c1" });
  w.socket.say({ id: "all", event: "skipped", count: 40, cursor: "c2" });
  w.socket.say({ id: "all", event: "skipped", count: 2, cursor: "c3" });
  expect(w.state).toEqual(["behind", "42 readings skipped"]);
  expect(w.missed).toBe(2);
  expect(w.waiting()).toBe(1);
  w.pass();
  expect(w.state).toEqual(["live", ""]);
});

test("an error without a cursor is shown, and tried again later", () => {
  w.open().say({ id: "all", event: "error", status: 503, title: "Overloaded" });
  expect(w.states).toContainEqual(["reconnecting", "Overloaded"]);
  expect(w.pass()).toBe(400);
  expect(w.sockets.length).toBe(2);
});

test("a refusal stays until the door opens, and a new token is tried at once", async () => {
  w.refusal = "a token is needed";
  w.socket.close();
  await Promise.resolve();
  expect(w.state).toEqual(["refused", "a token is needed"]);
  w.pass();
  w.socket.close();
  await Promise.resolve();
  expect(w.state).toEqual(["refused", "a token is needed"]);
  w.pass();
  const connecting = w.socket;
  w.feed.restart();
  connecting.onclose?.({ code: 1006, reason: "" });
  w.open().say({ id: "all", event: "live", cursor: "c1" });
  expect(w.state).toEqual(["live", ""]);
  expect(w.waiting()).toBe(0);
});

test("chance spreads the attempts over half the wait", () => {
  expect(backoff(0, 0)).toBe(200);
  expect(backoff(0, 0.5)).toBe(300);
  expect(backoff(20, 0)).toBe(7500);
});
