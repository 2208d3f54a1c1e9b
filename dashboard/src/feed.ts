// The live feed: one subscription to everything, that goes on where it stopped.
//
//	connecting ──live──▶ live ──skipped──▶ behind ──live──▶ live
//	     ▲                │ closed
//	     └── reconnecting ◀┘   subscribe from the last cursor: behind until live
//
// Nothing here touches the browser: socket, clock and chance are handed in.

import type { Reading } from "./reading";

/** What the feed needs of a WebSocket. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface Surroundings {
  connect(): Socket;
  /** Calls `fire` once after `ms`; the answer calls it off. */
  after(ms: number, fire: () => void): () => void;
  /** From 0 up to, not including, 1. */
  random(): number;
  /** Whether the server refuses this client, and with which sentence. Asked
   * after a failed attempt: a browser does not tell why a WebSocket failed. */
  refusal(): Promise<string | undefined>;
}

export type State = "connecting" | "live" | "behind" | "reconnecting" | "refused";

export interface Listener {
  /** Readings, in order. `live` is false for those of a snapshot. */
  readings(batch: Reading[], live: boolean): void;
  state(state: State, detail: string): void;
  /** Readings are missing: the server skipped some, or the past is gone. */
  missed(): void;
}

/** A message of the server: readings or an event. */
interface Message {
  id?: string;
  cursor?: string;
  readings?: Reading[];
  event?: string;
  [detail: string]: unknown;
}

const FIRST_DELAY = 400; // ms
const LAST_DELAY = 15_000; // ms
const CALM = 4_000; // ms without a skip until the feed counts as live again
const SUBSCRIPTION = "all";

/** The wait before attempt n (from 0): doubling, and between half of it and all
 * of it by chance, so that a thousand pages do not come back at once. */
export function backoff(attempt: number, random: number): number {
  const delay = Math.min(LAST_DELAY, FIRST_DELAY * 2 ** attempt);
  return delay * (0.5 + random / 2);
}

export class Feed {
  /** The place to go on from; undefined until the server has told one. */
  cursor: string | undefined;
  /** How often the feed went on from a cursor. */
  resumes = 0;
  private socket: Socket | undefined;
  private attempt = 0;
  private skipped = 0;
  private refused = false;
  /** Call off the next attempt, and the end of being behind. */
  private retry: (() => void) | undefined;
  private calm: (() => void) | undefined;

  constructor(
    private readonly around: Surroundings,
    private readonly listener: Listener,
  ) {}

  /** Connects. Without an effect while connected. */
  start(): void {
    if (this.socket !== undefined) return;
    this.retry?.();
    this.retry = undefined;
    const socket = this.around.connect();
    let opened = false;
    this.socket = socket;
    socket.onopen = () => {
      opened = true;
      if (this.socket === socket) this.subscribe();
    };
    socket.onmessage = (event) => {
      if (this.socket === socket) this.receive(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(opened, event.reason);
    };
  }

  /** Connects again at once: there is a new token. */
  restart(): void {
    const socket = this.socket;
    this.socket = undefined; // its end is of no concern any more
    socket?.close();
    this.attempt = 0;
    this.start();
  }

  private subscribe(): void {
    this.refused = false;
    if (this.cursor === undefined) {
      this.send({ op: "subscribe", id: SUBSCRIPTION, snapshot: true });
      return;
    }
    this.resumes++;
    this.send({ op: "subscribe", id: SUBSCRIPTION, from: this.cursor });
    this.listener.state("behind", "catching up");
  }

  private send(message: object): void {
    this.socket?.send(JSON.stringify(message));
  }

  private receive(data: unknown): void {
    const message = parse(data);
    if (message === undefined || (message.id ?? SUBSCRIPTION) !== SUBSCRIPTION) return;
    if (message.event !== "error") this.attempt = 0;
    if (message.readings !== undefined && message.readings.length > 0) {
      this.listener.readings(message.readings, message.event !== "snapshot");
    }
    // Only now: had the readings thrown, the cursor must not lie behind them. The
    // cursor of a snapshot is not taken: there may be more of the snapshot to come.
    if (typeof message.cursor === "string" && message.cursor !== "" && message.event !== "snapshot") {
      this.cursor = message.cursor;
    }
    if (message.event !== undefined) this.happen(message.event, message);
  }

  private happen(event: string, message: Message): void {
    switch (event) {
      case "live":
        this.live();
        break;
      case "skipped":
        this.skip(amount(message));
        break;
      case "gap":
        this.listener.state("behind", sentence(message, "a part of the past is gone"));
        this.listener.missed();
        break;
      case "end":
        this.socket?.close();
        break;
      case "error":
        this.failed(sentence(message, "the server refused the subscription"));
        break;
    }
  }

  private live(): void {
    this.calm?.();
    this.calm = undefined;
    this.skipped = 0;
    this.listener.state("live", "");
  }

  private skip(count: number): void {
    this.skipped += count;
    const readings = this.skipped === 1 ? "1 reading" : `${this.skipped} readings`;
    this.listener.state("behind", this.skipped > 0 ? `${readings} skipped` : "readings skipped");
    this.listener.missed();
    this.calm?.();
    this.calm = this.around.after(CALM, () => this.live());
  }

  /** The server did not take the subscription. With a cursor, the cursor may be
   * what it cannot take (gone with its log): begin anew. Without one, wait. */
  private failed(detail: string): void {
    if (this.cursor !== undefined) {
      this.cursor = undefined;
      this.listener.missed();
      this.subscribe();
      return;
    }
    this.listener.state("reconnecting", detail);
    this.socket?.close();
  }

  private closed(opened: boolean, reason: string): void {
    this.calm?.();
    this.calm = undefined;
    this.socket = undefined;
    this.skipped = 0;
    const delay = backoff(this.attempt++, this.around.random());
    this.retry = this.around.after(delay, () => this.start());
    // Refused stays so until the door opens: somebody may be typing a token.
    if (!this.refused) this.listener.state("reconnecting", reason);
    if (!opened) void this.ask();
  }

  private async ask(): Promise<void> {
    const detail = await this.around.refusal();
    if (this.socket !== undefined) return; // the next attempt is under way
    if (detail !== undefined) this.listener.state("refused", detail);
    else if (this.refused) this.listener.state("reconnecting", "");
    this.refused = detail !== undefined;
  }
}

function parse(data: unknown): Message | undefined {
  if (typeof data !== "string") return undefined;
  try {
    const message: unknown = JSON.parse(data);
    return typeof message === "object" && message !== null ? (message as Message) : undefined;
  } catch {
    return undefined; // not ours: a proxy's greeting, or a broken frame
  }
}

function amount(message: Message): number {
  const count = message["count"] ?? message["skipped"];
  return typeof count === "number" && count > 0 ? count : 0;
}

/** The sentence of an error or an event, which may be a whole problem (RFC 9457). */
function sentence(message: Record<string, unknown>, otherwise: string): string {
  for (const name of ["detail", "error", "problem", "title"]) {
    const value = message[name];
    if (typeof value === "string" && value !== "") return value;
    if (typeof value === "object" && value !== null) {
      return sentence(value as Record<string, unknown>, otherwise);
    }
  }
  return otherwise;
}
