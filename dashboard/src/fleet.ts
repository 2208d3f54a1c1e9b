// The fleet: each device's newest values, as far as this page has heard.

import { placeOf, type Place, type Reading, type Value } from "./reading";

/** The newest value of one metric, and the reading's time it came with. */
export interface Sample {
  value: Value;
  time: string;
}

export interface Device {
  readonly name: string;
  /** By metric, in order of first hearing. */
  readonly values: Map<string, Sample>;
  /** Time of the newest reading: as text, and in ms since 1970. */
  stamp: string;
  time: number;
  /** When this page last heard the device live, ms since 1970; 0: never. */
  heard: number;
  place: Place | undefined;
  placeStamp: string;
}

/** A device is fresh if it spoke, or was heard, within this many ms. */
const FRESH = 60_000;

export function isFresh(device: Device, now: number): boolean {
  return now - Math.max(device.heard, device.time) < FRESH;
}

/** Holds what is known of every device. A late reading never replaces a newer
 * value: each metric keeps the one with the newest time. */
export class Fleet {
  readonly devices = new Map<string, Device>();
  /** How many devices have a place. */
  placed = 0;
  /** Counts up whenever a device is new; a view that keeps an order watches it. */
  members = 0;

  /** Takes a reading in. `live` is false for what a snapshot told. */
  apply(reading: Reading, now: number, live: boolean): Device {
    const device = this.devices.get(reading.device) ?? this.add(reading.device);
    if (live) device.heard = now;
    if (reading.time > device.stamp) {
      device.stamp = reading.time;
      device.time = Date.parse(reading.time);
    }
    for (const metric of Object.keys(reading.values)) {
      const value = reading.values[metric] as Value;
      const sample = device.values.get(metric);
      if (sample === undefined) {
        device.values.set(metric, { value, time: reading.time });
      } else if (reading.time >= sample.time) {
        sample.value = value;
        sample.time = reading.time;
      }
    }
    this.move(device, reading);
    return device;
  }

  private add(name: string): Device {
    const device: Device = {
      name,
      values: new Map(),
      stamp: "",
      time: 0,
      heard: 0,
      place: undefined,
      placeStamp: "",
    };
    this.devices.set(name, device);
    this.members++;
    return device;
  }

  private move(device: Device, reading: Reading): void {
    if (reading.time < device.placeStamp) return;
    const place = placeOf(reading.values);
    if (place === undefined) return;
    if (device.place === undefined) this.placed++;
    device.place = place;
    device.placeStamp = reading.time;
  }
}

/** How the list of devices may be ordered. */
export type Order = "name" | "recent" | "silent";

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

const compare: Record<Order, (a: Device, b: Device) => number> = {
  name: (a, b) => collator.compare(a.name, b.name) || (a.name < b.name ? -1 : 1),
  recent: (a, b) => b.time - a.time || compare.name(a, b),
  silent: (a, b) => a.time - b.time || compare.name(a, b),
};

/** The devices whose names hold every word of the query, in the order asked. */
export function arrange(fleet: Fleet, query: string, order: Order): Device[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Device[] = [];
  for (const device of fleet.devices.values()) {
    const name = device.name.toLowerCase();
    if (words.every((word) => name.includes(word))) found.push(device);
  }
  return found.sort(compare[order]);
}
