import { expect, test } from "vitest";
import * as camera from "../src/camera";

const size = { width: 800, height: 600 };
const pixel = (c: camera.Camera, lat: number, lon: number) => [
  camera.worldX(lon) * c.k + c.x,
  camera.worldY(lat) * c.k + c.y,
];

test("Mercator has its corners and its middle where they belong", () => {
  expect(camera.worldX(-180)).toBe(0);
  expect(camera.worldX(180)).toBe(1);
  expect(camera.worldY(0)).toBeCloseTo(0.5);
  expect(camera.worldY(90)).toBeCloseTo(0, 4);
  expect(camera.latitudeOf(camera.worldY(52.1))).toBeCloseTo(52.1);
});

test("a fit shows all places and wastes little", () => {
  const places = [
    { lat: 30, lon: 32.3 },
    { lat: 31.5, lon: 32.6 },
  ];
  const box = camera.boxOf(places) as camera.Box;
  const fitted = camera.fit(box, size);
  const rows = places.map(({ lat, lon }) => pixel(fitted, lat, lon)[1] as number);
  expect(Math.max(...rows)).toBeCloseTo(600 * 0.91);
  expect(Math.min(...rows)).toBeCloseTo(600 * 0.09);
  expect(camera.misfit(fitted, box, size)).toBe(false);
  expect(camera.boxOf([])).toBeUndefined();
});

test("one place alone shows its surroundings; a yard is not blown up to a continent", () => {
  const alone = camera.fit(camera.boxOf([{ lat: 52, lon: 5 }]) as camera.Box, size);
  const [metres] = camera.scaleBar(alone, size, 110);
  expect(metres).toBeGreaterThanOrEqual(5_000);
  expect(metres).toBeLessThanOrEqual(50_000);
});

test("a new fit is due when somebody leaves, or all come close together", () => {
  const wide = camera.boxOf([{ lat: 0, lon: 0 }, { lat: 10, lon: 10 }]) as camera.Box;
  const fitted = camera.fit(wide, size);
  const gone = camera.boxOf([{ lat: 0, lon: 0 }, { lat: 10, lon: 30 }]) as camera.Box;
  const close = camera.boxOf([{ lat: 5, lon: 5 }, { lat: 6, lon: 6 }]) as camera.Box;
  expect(camera.misfit(fitted, gone, size)).toBe(true);
  expect(camera.misfit(fitted, close, size)).toBe(true);
});

test("zoom keeps what is under the pointer, pan moves it, and the world stays in sight", () => {
  const before = camera.fit(camera.boxOf([{ lat: 30, lon: 32 }, { lat: 31, lon: 33 }]) as camera.Box, size);
  const [x, y] = pixel(before, 30.4, 32.2) as [number, number];
  const after = camera.zoom(before, 3, x, y, size);
  expect(pixel(after, 30.4, 32.2)[0]).toBeCloseTo(x);
  expect(pixel(after, 30.4, 32.2)[1]).toBeCloseTo(y);
  expect(camera.zoom(before, 1e9, x, y, size).k).toBe(4e7);
  expect(camera.zoom(before, 1e-9, x, y, size).k).toBe(420);
  const far = camera.pan(before, 1e9, -1e9, size);
  expect(far.x).toBe(400);
  expect(far.y).toBe(300 - far.k);
});

test("scale and grid are round numbers", () => {
  for (let k = 500; k < 4e7; k *= 1.7) {
    const c = { k, x: 400 - k / 2, y: 300 - k / 2 };
    const [metres, px] = camera.scaleBar(c, size, 110);
    expect(px).toBeLessThanOrEqual(110.001);
    expect(px).toBeGreaterThan(40);
    expect(Number(metres.toPrecision(1))).toBeCloseTo(metres, 6);
    const apart = (camera.gridStep(c) / 360) * k;
    expect(apart).toBeGreaterThan(40);
    expect(apart).toBeLessThan(300);
  }
});
