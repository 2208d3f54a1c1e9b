// How values, times and amounts are written. Always the same form, whatever the
// browser's language: the page, the API and the logs shall read alike.

import type { Value } from "./reading";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const exact = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

/** A value in few characters; the full one belongs in a tooltip. */
export function formatValue(value: Value, metric = ""): string {
  if (typeof value !== "number") return String(value);
  if (metric === "lat" || metric === "lon") return value.toFixed(5);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(3);
  return Number.isInteger(value) || size >= 1e6 ? whole.format(value) : exact.format(value);
}

/** An amount of things. */
export function formatCount(count: number): string {
  return whole.format(count);
}

/** Things a second: one decimal below ten. */
export function formatRate(rate: number): string {
  if (rate <= 0) return "0";
  return rate < 9.95 ? rate.toFixed(1) : whole.format(rate);
}

const spans: [limit: number, unit: number, name: string][] = [
  [90, 1, "s"],
  [90 * 60, 60, "min"],
  [36 * 3600, 3600, "h"],
  [400 * 86400, 86400, "d"],
  [Infinity, 365.25 * 86400, "y"],
];

function span(seconds: number): string {
  for (const [limit, unit, name] of spans) {
    if (seconds < limit) return `${Math.max(1, Math.round(seconds / unit))} ${name}`;
  }
  return "";
}

/** How long ago `then` was. A clock that runs a little ahead reads as now. */
export function formatAgo(then: number, now: number): string {
  const seconds = (now - then) / 1000;
  if (!Number.isFinite(seconds)) return "";
  if (seconds < -5) return `in ${span(-seconds)}`;
  return seconds < 1.5 ? "now" : `${span(seconds)} ago`;
}

/** The canonical time without its T and its trailing zeros:
 * `2026-11-21 22:00:00.123 UTC`. */
export function formatTime(canonical: string): string {
  return canonical.replace("T", " ").replace(/\.?0*Z$/, "") + " UTC";
}

/** What a device said last, in one line; the place comes last. */
export function summarise(values: Iterable<[string, { value: Value }]>): string {
  const said: string[] = [];
  const place: string[] = [];
  for (const [metric, { value }] of values) {
    const text = `${metric} ${formatValue(value, metric)}`;
    (metric === "lat" || metric === "lon" ? place : said).push(text);
    if (said.length === 8) break;
  }
  return [...said, ...place].join(" · ");
}
