import { expect, test } from "vitest";
import { formatAgo, formatCount, formatRate, formatTime, formatValue, summarise } from "../src/format";

test("values are short and never lose their size", () => {
  const cases: [Parameters<typeof formatValue>, string][] = [
    [[61.2], "61.2"],
    [[0], "0"],
    [[-0.1234567], "-0.123457"],
    [[1234567.891], "1,234,568"],
    [[0.00001], "1.000e-5"],
    [[1e21], "1.000e+21"],
    [[123456789012], "123,456,789,012"],
    [[52.1, "lat"], "52.10000"],
    [[true], "true"],
    [["moving"], "moving"],
  ];
  for (const [given, want] of cases) expect(formatValue(...given)).toBe(want);
});

test("rates and counts", () => {
  expect([0, 0.04, 3.14, 9.96, 12345.6].map(formatRate)).toEqual(["0", "0.0", "3.1", "10", "12,346"]);
  expect(formatCount(1234567)).toBe("1,234,567");
});

test("how long ago, in the unit that says most", () => {
  const second = 1000;
  const cases: [number, string][] = [
    [0, "now"],
    [-4 * second, "now"],
    [12 * second, "12 s ago"],
    [89 * second, "89 s ago"],
    [120 * second, "2 min ago"],
    [3 * 3600 * second, "3 h ago"],
    [49 * 3600 * second, "2 d ago"],
    [5 * 366 * 86400 * second, "5 y ago"],
    [-1800 * second, "in 30 min"],
    [NaN, ""],
  ];
  for (const [age, want] of cases) expect(formatAgo(1e12 - age, 1e12)).toBe(want);
});

test("times without what says nothing", () => {
  expect(formatTime("2026-11-21T22:00:00.123000Z")).toBe("2026-11-21 22:00:00.123 UTC");
  expect(formatTime("2026-11-21T22:00:10.000000Z")).toBe("2026-11-21 22:00:10 UTC");
});

test("a line of values, the place last", () => {
  const values = new Map([
    ["lat", { value: 1 }],
    ["speed", { value: 61.2 }],
    ["state", { value: "moving" }],
  ]);
  expect(summarise(values)).toBe("speed 61.2 · state moving · lat 1.00000");
});
