// The map's camera. The world is a square of side 1 in Mercator's projection,
// (0,0) at its north-west corner; the camera says which pixels it covers.

import type { Place } from "./reading";

export interface Camera {
  /** Pixels per side of the world, and the pixel of its north-west corner. */
  k: number;
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** The earth's equator, in metres. */
const EQUATOR = 40_075_016.7;
const MAX_LATITUDE = 85.0511; // there Mercator's world is square
const CLOSEST = 4e7; // about a metre a pixel
const SMALLEST = 1e-4; // of the world, about 4 km: no fit goes closer
const ALONE = 4e-3; // about 160 km: what is shown around a single place

export function worldX(lon: number): number {
  return (lon + 180) / 360;
}

export function worldY(lat: number): number {
  const phi = (Math.max(-MAX_LATITUDE, Math.min(MAX_LATITUDE, lat)) * Math.PI) / 180;
  return (1 - Math.log(Math.tan(Math.PI / 4 + phi / 2)) / Math.PI) / 2;
}

export function latitudeOf(y: number): number {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

/** Around all places; undefined if there are none. */
export function boxOf(places: Iterable<Place>): Box | undefined {
  const box: Box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { lat, lon } of places) {
    const x = worldX(lon);
    const y = worldY(lat);
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y);
  }
  return box.left === Infinity ? undefined : box;
}

/** The camera that shows the box with some air around it. */
export function fit(box: Box, { width, height }: Size): Camera {
  const air = 0.82;
  const wide = box.right - box.left;
  const high = box.bottom - box.top;
  const least = wide === 0 && high === 0 ? ALONE : SMALLEST;
  const k = air * Math.min(width / Math.max(wide, least), height / Math.max(high, least));
  const centreX = (box.left + box.right) / 2;
  const centreY = (box.top + box.bottom) / 2;
  return bound({ k, x: width / 2 - centreX * k, y: height / 2 - centreY * k }, { width, height });
}

/** The whole world but the poles. */
export function overview(size: Size): Camera {
  return fit({ left: 0, right: 1, top: worldY(78), bottom: worldY(-58) }, size);
}

/** Zooms by factor and keeps what is at pixel (px, py) there. */
export function zoom(camera: Camera, factor: number, px: number, py: number, size: Size): Camera {
  const k = limit(camera.k * factor, size);
  const grown = k / camera.k;
  return bound({ k, x: px - (px - camera.x) * grown, y: py - (py - camera.y) * grown }, size);
}

export function pan(camera: Camera, dx: number, dy: number, size: Size): Camera {
  return bound({ k: camera.k, x: camera.x + dx, y: camera.y + dy }, size);
}

function limit(k: number, size: Size): number {
  return Math.max(Math.min(size.width, size.height) * 0.7, Math.min(CLOSEST, k));
}

/** Keeps the world in sight: its edge never passes the middle of the view. */
function bound({ k, x, y }: Camera, size: Size): Camera {
  k = limit(k, size);
  x = Math.max(size.width / 2 - k, Math.min(size.width / 2, x));
  y = Math.max(size.height / 2 - k, Math.min(size.height / 2, y));
  return { k, x, y };
}

/** Whether a new fit is due: the box leaves the view, or has become small in it. */
export function misfit(camera: Camera, box: Box, size: Size): boolean {
  const left = box.left * camera.k + camera.x;
  const right = box.right * camera.k + camera.x;
  const top = box.top * camera.k + camera.y;
  const bottom = box.bottom * camera.k + camera.y;
  if (left < 0 || top < 0 || right > size.width || bottom > size.height) return true;
  return fit(box, size).k > camera.k * 2.5;
}

/** A length for the scale bar: 1, 2 or 5 times a power of ten metres, at most
 * `pixels` long in the middle of the view, and how many pixels that is. */
export function scaleBar(camera: Camera, size: Size, pixels: number): [metres: number, px: number] {
  const lat = latitudeOf((size.height / 2 - camera.y) / camera.k);
  const metresPerPixel = (EQUATOR * Math.cos((lat * Math.PI) / 180)) / camera.k;
  const metres = roundDown(metresPerPixel * pixels);
  return [metres, metres / metresPerPixel];
}

/** Degrees between two meridians drawn, so that they are some 120 px apart. */
export function gridStep(camera: Camera): number {
  const degrees = (120 / camera.k) * 360;
  for (const step of [30, 15, 10, 5, 2, 1]) {
    if (degrees >= step * 0.75) return step;
  }
  return roundDown(degrees * 1.2);
}

function roundDown(amount: number): number {
  const power = 10 ** Math.floor(Math.log10(amount));
  const digit = amount / power;
  return (digit >= 5 ? 5 : digit >= 2 ? 2 : 1) * power;
}
