// What lies under the fleet on the map: sea, land, grid, scale and names.

import { gridStep, latitudeOf, scaleBar, worldX, worldY, type Camera, type Size } from "./camera";
import type { CountryName, Land } from "./land";

/** The map's colours and its font. */
export interface Ink {
  sea: string;
  ground: string;
  border: string;
  coast: string;
  grid: string;
  faint: string;
  dot: string;
  silent: string;
  halo: string;
  text: string;
  font: string;
}

export interface Sheet {
  camera: Camera;
  size: Size;
  ink: Ink;
  /** Canvas pixels per CSS pixel. */
  ratio: number;
}

/** The side of the square that land.ts draws its paths in. Stated again here, so
 * that the map does not load that chunk at once. */
const WORLD = 4096;

/** Sea and land. Leaves the canvas in the land's transform. */
export function paintGround(
  context: CanvasRenderingContext2D,
  { camera, size, ink, ratio }: Sheet,
  land: Land | undefined,
): void {
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = ink.sea;
  context.fillRect(0, 0, size.width, size.height);
  if (land === undefined) return;
  const scale = camera.k / WORLD;
  context.setTransform(scale * ratio, 0, 0, scale * ratio, camera.x * ratio, camera.y * ratio);
  context.lineJoin = "round";
  context.lineWidth = 1 / scale;
  context.fillStyle = ink.ground;
  context.fill(land.ground);
  context.strokeStyle = ink.border;
  context.stroke(land.borders);
  context.strokeStyle = ink.coast;
  context.stroke(land.ground);
}

/** Meridians and parallels, with their degrees at the edge. */
export function paintGrid(context: CanvasRenderingContext2D, { camera, size, ink }: Sheet): void {
  const step = gridStep(camera);
  const lonAt = (px: number) => ((px - camera.x) / camera.k) * 360 - 180;
  const latAt = (py: number) => latitudeOf((py - camera.y) / camera.k);
  context.lineWidth = 1;
  context.strokeStyle = ink.grid;
  context.fillStyle = ink.faint;
  context.font = `10px ${ink.font}`;
  context.textBaseline = "top";
  context.textAlign = "left";
  context.beginPath();
  for (const lon of multiples(Math.max(-180, lonAt(0)), Math.min(180, lonAt(size.width)), step)) {
    const x = Math.round(worldX(lon) * camera.k + camera.x) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, size.height);
    if (x < size.width - 44) context.fillText(degrees(lon, step, "E", "W"), x + 3, 4);
  }
  for (const lat of multiples(Math.max(-80, latAt(size.height)), Math.min(80, latAt(0)), step)) {
    const y = Math.round(worldY(lat) * camera.k + camera.y) + 0.5;
    context.moveTo(0, y);
    context.lineTo(size.width, y);
    if (y > 24 && y < size.height - 44) context.fillText(degrees(lat, step, "N", "S"), 4, y + 3);
  }
  context.stroke();
}

function* multiples(from: number, to: number, step: number): Iterable<number> {
  for (let i = Math.ceil(from / step); i * step <= to; i++) yield i * step;
}

function degrees(value: number, step: number, positive: string, negative: string): string {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return "0°";
  return `${text}°${value > 0 ? positive : negative}`;
}

/** The scale bar, at the lower left. */
export function paintScale(context: CanvasRenderingContext2D, { camera, size, ink }: Sheet): void {
  const [metres, px] = scaleBar(camera, size, 110);
  const text = metres >= 1000 ? `${(metres / 1000).toLocaleString("en")} km` : `${metres} m`;
  const [x, y] = [12, size.height - 12];
  context.strokeStyle = ink.text;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, y - 5);
  context.lineTo(x, y);
  context.lineTo(x + px, y);
  context.lineTo(x + px, y - 5);
  context.stroke();
  context.textAlign = "left";
  context.textBaseline = "bottom";
  write(context, text, x + 4, y - 3, { font: `11px ${ink.font}`, ink, colour: ink.text });
}

interface Hand {
  font: string;
  colour: string;
  ink: Ink;
}

/** Text with a rim in the colour of the ground, legible on everything. */
function write(
  context: CanvasRenderingContext2D,
  text: string,
  x: number,
  y: number,
  { font, colour, ink }: Hand,
): void {
  context.font = font;
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = ink.halo;
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

/** Places names so that none covers another: first come, first served. */
export class Labels {
  private readonly taken: [left: number, top: number, right: number, bottom: number][] = [];

  constructor(private readonly size: Size) {}

  /** No name covers this dot. */
  keepFree({ x, y }: { x: number; y: number }): void {
    this.taken.push([x - 4, y - 4, x + 4, y + 4]);
  }

  /** Writes a device's name right of its dot, or left where the view ends. With
   * `always` even over another. Answers whether it did. */
  device(
    context: CanvasRenderingContext2D,
    name: string,
    dot: { x: number; y: number },
    ink: Ink,
    always: boolean,
  ): boolean {
    const font = `${always ? "600 12px" : "11px"} ${ink.font}`;
    context.font = font;
    const width = context.measureText(name).width;
    const left = dot.x + 10 + width > this.size.width ? dot.x - 10 - width : dot.x + 10;
    if (!this.take(left, dot.y - 7, width, 14) && !always) return false;
    context.textAlign = "left";
    context.textBaseline = "middle";
    write(context, name, left, dot.y, { font, colour: ink.text, ink });
    return true;
  }

  /** Names of countries, where the country is large enough to carry its own. */
  countries(
    context: CanvasRenderingContext2D,
    names: readonly CountryName[],
    camera: Camera,
    ink: Ink,
  ): void {
    context.font = `11px ${ink.font}`;
    context.fillStyle = ink.faint;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const { name, x, y, extent } of names) {
      const width = context.measureText(name).width;
      if (extent * camera.k < width * 0.9) continue;
      const [px, py] = [x * camera.k + camera.x, y * camera.k + camera.y];
      if (px < 0 || py < 0 || px > this.size.width || py > this.size.height) continue;
      if (this.take(px - width / 2, py - 7, width, 14)) context.fillText(name, px, py);
    }
  }

  private take(x: number, y: number, width: number, height: number): boolean {
    const [right, bottom] = [x + width, y + height];
    for (const [l, t, r, b] of this.taken) {
      if (x < r && right > l && y < b && bottom > t) return false;
    }
    this.taken.push([x, y, right, bottom]);
    return true;
  }
}
