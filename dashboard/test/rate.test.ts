import { expect, test } from "vitest";
import { Rate } from "../src/rate";

test("a steady stream reads as its rate, from the second second on", () => {
  const rate = new Rate();
  for (let now = 0; now <= 20_000; now += 10) {
    rate.add(5, 1e6 + now);
    if (now > 1500) expect(rate.read(1e6 + now)).toBeCloseTo(500, -1.5);
  }
  expect(rate.total).toBe(5 * 2001);
});

test("silence reads as nothing after five seconds, and a burst does not read as more than it was", () => {
  const rate = new Rate();
  expect(rate.read(0)).toBe(0);
  rate.add(1000, 10_000);
  expect(rate.read(10_000)).toBe(1000);
  expect(rate.read(12_000)).toBeCloseTo(500, -1);
  expect(rate.read(15_100)).toBe(0);
  expect(rate.read(1e9)).toBe(0);
});
