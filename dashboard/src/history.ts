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

/** Asks for the readings of a device from a time on. Answers undefined if the
 * server cannot tell: it has no database, or does not answer. */
export async function fetchPast(
  fetcher: (path: string) => Promise<Response>,
  device: string,
  metric: string,
  from: Date,
): Promise<Points | undefined> {
  const query = new URLSearchParams({ device, metric, from: from.toISOString() });
  try {
    const answer = await fetcher(`/v1/readings?${query}`);
    if (!answer.ok) return undefined;
    return pointsOf(readingsOf(await answer.text()), metric);
  } catch {
    return undefined;
  }
}
