import { expect, test } from "vitest";
import { align, lowerBound, MAX_POINTS, Trace, windowOf } from "../src/trace";

function trace(...points: [number, number][]): Trace {
  const made = new Trace();
  for (const [time, value] of points) made.add(time, value);
  return made;
}

test("points stand in order of time, each time once", () => {
  const t = trace([3, 30], [1, 10], [2, 20], [2, 21], [4, 40]);
  expect(t.times).toEqual([1, 2, 3, 4]);
  expect(t.values).toEqual([10, 21, 30, 40]);
});

test("history goes beneath what was heard", () => {
  const t = trace([3, 30], [4, 40]);
  t.merge([1, 2, 3], [10, 20, -1]);
  expect(t.times).toEqual([1, 2, 3, 4]);
  expect(t.values).toEqual([10, 20, 30, 40]);
});

test("a trace does not grow for ever", () => {
  const t = new Trace();
  for (let i = 0; i < MAX_POINTS * 2; i++) t.add(i, i);
  expect(t.times.length).toBeLessThanOrEqual(MAX_POINTS * 1.1 + 1);
  expect(t.times[t.times.length - 1]).toBe(MAX_POINTS * 2 - 1);
});

test("the window ends now, or with the recording", () => {
  expect(windowOf([trace([700, 1], [990, 1])], 200, 1000)).toEqual([800, 1000]);
  expect(windowOf([trace([1, 1], [100, 1]), trace([200, 1])], 150, 1000)).toEqual([50, 200]);
  expect(windowOf([trace([1, 1], [1005, 1])], 100, 1000)).toEqual([905, 1005]);
  expect(windowOf([], 60, 1000)).toEqual([940, 1000]);
});

test("the window begins with the data, if there is less", () => {
  expect(windowOf([trace([700, 1], [990, 1])], 3600, 1000)).toEqual([700, 1000]);
  expect(windowOf([trace([990, 1])], 3600, 1000)).toEqual([940, 1000]);
});

test("traces share one table", () => {
  const table = align([trace([1, 10], [3, 30], [9, 90]), trace([2, 2], [3, 3])], 1, 5);
  expect(table).toEqual([[1, 2, 3], [10, undefined, 30], [undefined, 2, 3]]);
});

test("the lower bound", () => {
  expect([0, 1, 2, 5, 6].map((at) => lowerBound([1, 3, 5], at))).toEqual([0, 0, 1, 2, 3]);
});
