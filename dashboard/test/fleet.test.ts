import { expect, test } from "vitest";
import { arrange, Fleet, isFresh } from "../src/fleet";
import { plottable } from "../src/reading";

const time = (second: number) => `2026-11-21T22:00:${String(second).padStart(2, "0")}.000000Z`;

test("each metric keeps its newest value, however late readings come", () => {
  const fleet = new Fleet();
  fleet.apply({ device: "a", time: time(5), values: { speed: 5, lat: 50, lon: 5 } }, 1, true);
  fleet.apply({ device: "a", time: time(3), values: { speed: 3, heat: 3, lat: 30, lon: 3 } }, 2, true);
  const device = fleet.devices.get("a");
  expect(device?.values.get("speed")).toEqual({ value: 5, time: time(5) });
  expect(device?.values.get("heat")).toEqual({ value: 3, time: time(3) });
  expect(device?.place).toEqual({ lat: 50, lon: 5 });
  expect(device?.stamp).toBe(time(5));
  expect(fleet.members).toBe(1);
});

test("a device is on the map once its place is a place", () => {
  const fleet = new Fleet();
  const say = (values: Record<string, number | string>) =>
    fleet.apply({ device: "a", time: time(1), values }, 1, true);
  say({ lat: 91, lon: 0 });
  say({ lat: "52", lon: 5 });
  say({ lat: 52 });
  expect(fleet.placed).toBe(0);
  say({ lat: 0, lon: -180 });
  say({ lat: 1, lon: 1 });
  expect(fleet.placed).toBe(1);
});

test("a metric may have any name", () => {
  const fleet = new Fleet();
  const values = JSON.parse('{"__proto__":1,"constructor":2}') as Record<string, number>;
  const device = fleet.apply({ device: "a", time: time(1), values }, 1, true);
  expect([...device.values.keys()]).toEqual(["__proto__", "constructor"]);
});

test("fresh is who spoke or was heard within a minute", () => {
  const fleet = new Fleet();
  const then = Date.parse(time(0));
  const old = fleet.apply({ device: "a", time: time(0), values: {} }, then, false);
  expect(isFresh(old, then + 59_000)).toBe(true);
  expect(isFresh(old, then + 61_000)).toBe(false);
  fleet.apply({ device: "a", time: time(0), values: {} }, then + 100_000, true);
  expect(isFresh(old, then + 120_000)).toBe(true);
});

test("devices are found by the words of their names, and numbers count as numbers", () => {
  const fleet = new Fleet();
  ["van-10", "van-9", "Truck-1", "van-1"].forEach((device, i) =>
    fleet.apply({ device, time: time(i), values: {} }, 1, true),
  );
  const names = (query: string, order: Parameters<typeof arrange>[2]) =>
    arrange(fleet, query, order).map(({ name }) => name);
  expect(names("", "name")).toEqual(["Truck-1", "van-1", "van-9", "van-10"]);
  expect(names("VAN 1", "name")).toEqual(["van-1", "van-10"]);
  expect(names("nobody", "name")).toEqual([]);
  expect(names("", "recent")[0]).toBe("van-1");
  expect(names("", "silent")[0]).toBe("van-10");
});

test("numbers and booleans can be charted, texts cannot", () => {
  expect([3.5, true, false, "7", undefined].map(plottable)).toEqual([3.5, 1, 0, undefined, undefined]);
});
