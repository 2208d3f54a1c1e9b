// The past of one metric of one device, from the query API.

import { plottable, type Reading } from "./reading";

/** Times in seconds since 1970, and the value at each. */
export type Points = [times: number[], values: number[]];

/** The points of a metric in readings. */
export function pointsOf(readings: readonly Reading[], metric: string): Points {
  const points: Points = [[], []];
  for (const { time, values } of readings) {
    const value = plottable(values[metric]);
    const seconds = Date.parse(time) / 1000;
    if (value === undefined || !Number.isFinite(seconds)) continue;
    points[0].push(seconds);
    points[1].push(value);
  }
  return points;
}

/** The readings of an answer: a JSON array, an object that holds one, or a line
 * for each reading. */
export function readingsOf(text: string): Reading[] {
  const trimmed = text.trim();
  if (trimmed === "") return [];
  try {
    const body: unknown = JSON.parse(trimmed);
    if (Array.isArray(body)) return body as Reading[];
    const { readings, device } = body as { readings?: Reading[]; device?: string };
    if (Array.isArray(readings)) return readings;
    return device === undefined ? [] : [body as Reading];
  } catch {
    return trimmed.split("\n").map((line) => JSON.parse(line) as Reading);
  }
}

/** The points in rollups: each bucket's average stands in its middle. */
export function pointsOfBuckets(buckets: readonly Bucket[], width: number): Points {
  const points: Points = [[], []];
  for (const { bucket, avg } of buckets) {
    const seconds = Date.parse(bucket) / 1000 + width / 2;
    if (typeof avg !== "number" || !Number.isFinite(seconds)) continue;
    points[0].push(seconds);
    points[1].push(avg);
  }
  return points;
}

/** A row of /v1/series, as far as a chart needs it. */
export interface Bucket {
  bucket: string;
  avg: number | null;
}

/** What past is wanted: `length` seconds up to `end`, in ms since 1970. */
export interface Wanted {
  device: string;
  metric: string;
  end: number;
  length: number;
}

type Ask = (path: string) => Promise<Response>;

const MINUTE = 60;
const RECENT = 3600; // s: nearer than this every reading is fetched, farther minutes suffice
const MOST = 10_000; // readings an answer; the newest ones count

/** Asks for the past: every reading of the last hour, minutes before. Answers
 * undefined if the server cannot tell: it has no database, or does not answer. */
export async function fetchPast(ask: Ask, wanted: Wanted): Promise<Points | undefined> {
  const begin = wanted.end - wanted.length * 1000;
  const recent = wanted.end - RECENT * 1000;
  try {
    if (begin >= recent) return await fetchReadings(ask, wanted, begin);
    const minutes = await fetchMinutes(ask, wanted, begin, recent);
    if (minutes === undefined) return await fetchReadings(ask, wanted, begin);
    const readings = await fetchReadings(ask, wanted, recent);
    if (readings === undefined) return minutes;
    return [minutes[0].concat(readings[0]), minutes[1].concat(readings[1])];
  } catch {
    return undefined;
  }
}

async function fetchReadings(ask: Ask, wanted: Wanted, from: number): Promise<Points | undefined> {
  const { device, metric } = wanted;
  const answer = await ask(
    `/v1/readings?${query({ device, metric, from: iso(from), order: "desc", limit: `${MOST}` })}`,
  );
  return answer.ok ? pointsOf(readingsOf(await answer.text()).reverse(), metric) : undefined;
}

async function fetchMinutes(ask: Ask, wanted: Wanted, from: number, to: number): Promise<Points | undefined> {
  const { device, metric } = wanted;
  const answer = await ask(
    `/v1/series?${query({ device, metric, from: iso(from), to: iso(to), bucket: "1m" })}`,
  );
  return answer.ok ? pointsOfBuckets((await answer.json()) as Bucket[], MINUTE) : undefined;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

function query(parameters: Record<string, string>): string {
  return new URLSearchParams(parameters).toString();
}
