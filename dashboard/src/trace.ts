// A trace: the points of one metric of one device, in order of time.

/** The points a trace keeps; the oldest go first. */
export const MAX_POINTS = 20_000;

export class Trace {
  /** Seconds since 1970, strictly increasing, and the value at each. */
  readonly times: number[] = [];
  readonly values: number[] = [];

  /** Adds a point where it belongs. The same time again replaces the value. */
  add(time: number, value: number): void {
    const end = this.times.length;
    const last = this.times[end - 1];
    if (last === undefined || time > last) {
      this.times.push(time);
      this.values.push(value);
      if (end > MAX_POINTS * 1.1) this.drop(end + 1 - MAX_POINTS);
      return;
    }
    const at = lowerBound(this.times, time);
    if (this.times[at] === time) {
      this.values[at] = value;
    } else {
      this.times.splice(at, 0, time);
      this.values.splice(at, 0, value);
    }
  }

  /** Adds points from history. Those already here stay as they are heard. */
  merge(times: readonly number[], values: readonly number[]): void {
    const here = new Map<number, number>();
    times.forEach((time, i) => here.set(time, values[i] as number));
    this.times.forEach((time, i) => here.set(time, this.values[i] as number));
    const all = [...here].sort((a, b) => a[0] - b[0]).slice(-MAX_POINTS);
    this.times.length = this.values.length = 0;
    for (const [time, value] of all) {
      this.times.push(time);
      this.values.push(value);
    }
  }

  private drop(count: number): void {
    this.times.splice(0, count);
    this.values.splice(0, count);
  }
}

/** The first index whose time is not before `time`. */
export function lowerBound(times: readonly number[], time: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A chart shows at least so many seconds. */
const LEAST = 60;

/** What a chart shows: from begin to end, in seconds since 1970. It ends now if
 * the traces reach into the last `length` seconds, else with their newest point:
 * a recording played today shows its own day. It begins `length` before, or with
 * the oldest point if there is less: young data shall not be a line at the edge. */
export function windowOf(
  traces: readonly Trace[],
  length: number,
  now: number,
): [begin: number, end: number] {
  let newest = -Infinity;
  let oldest = Infinity;
  for (const { times } of traces) {
    newest = Math.max(newest, times[times.length - 1] ?? -Infinity);
    oldest = Math.min(oldest, times[0] ?? Infinity);
  }
  if (newest === -Infinity) return [now - length, now];
  const end = newest > now - length ? Math.max(now, newest) : newest;
  return [Math.max(end - length, Math.min(oldest, end - LEAST)), end];
}

/** One table for all traces: the times of any of them in order, and for each
 * trace its value there, or undefined where it has none. */
export type Table = [times: number[], ...values: (number | undefined)[][]];

/** Merges what lies between begin and end. */
export function align(traces: readonly Trace[], begin: number, end: number): Table {
  const at = traces.map((trace) => lowerBound(trace.times, begin));
  const table: Table = [[], ...traces.map(() => [] as (number | undefined)[])];
  for (;;) {
    let next = Infinity;
    traces.forEach((trace, i) => {
      next = Math.min(next, trace.times[at[i] as number] ?? Infinity);
    });
    if (next > end || next === Infinity) return table;
    table[0].push(next);
    traces.forEach((trace, i) => {
      const here = at[i] as number;
      const hit = trace.times[here] === next;
      (table[i + 1] as (number | undefined)[]).push(hit ? trace.values[here] : undefined);
      if (hit) at[i] = here + 1;
    });
  }
}
