// The nouns of the wire: what the server says about devices.

/** One measured value: a number, a text or a boolean. */
export type Value = number | string | boolean;

/** What a device said at one instant. `time` is RFC 3339 in UTC with six digits
 * of a second, so two times compare as text. */
export interface Reading {
  device: string;
  time: string;
  values: Record<string, Value>;
}

/** A place on the earth, in degrees. */
export interface Place {
  lat: number;
  lon: number;
}

/** Where the reading is, if it says so with numbers that are a place. */
export function placeOf(values: Record<string, Value>): Place | undefined {
  const { lat, lon } = values as { lat?: Value; lon?: Value };
  if (typeof lat !== "number" || typeof lon !== "number") return undefined;
  if (!(Math.abs(lat) <= 90 && Math.abs(lon) <= 180)) return undefined;
  return { lat, lon };
}

/** The value as a chart draws it: booleans are 1 and 0, a text is nothing. */
export function plottable(value: Value | undefined): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return value ? 1 : 0;
  return undefined;
}
