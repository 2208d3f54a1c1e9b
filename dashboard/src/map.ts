// The map: who has a place stands on it. One canvas, no tiles, no network but
// the outlines, which come when the page already stands.

import {
  boxOf,
  fit,
  misfit,
  overview,
  pan,
  worldX,
  worldY,
  zoom,
  type Camera,
  type Size,
} from "./camera";
import { isFresh, type Device, type Fleet } from "./fleet";
import { Labels, paintGrid, paintGround, paintScale, type Ink } from "./ground";
import type { Detail, Land } from "./land";

/** What the map is told, and whom it tells. */
export interface MapOptions {
  fleet: Fleet;
  /** Colour of a device that is on the chart, else undefined. */
  colourOf(name: string): string | undefined;
  chosen(): string | undefined;
  choose(name: string, more: boolean): void;
  /** Asks for a frame. */
  redraw(): void;
}

interface Dot {
  device: Device;
  x: number;
  y: number;
}

const FINE_FROM = 1800; // pixels a world: closer than this, fine outlines are worth their bytes
const REACH = 14; // px around a dot in which a click or a pointer means it
const LABELS = 60; // at most so many names of devices

export class FleetMap {
  private camera: Camera = { k: 1, x: 0, y: 0 };
  private size: Size = { width: 0, height: 0 };
  private context: CanvasRenderingContext2D;
  private land: Land | undefined;
  private loading: Detail | undefined;
  private follows = true; // the camera follows the fleet, until somebody moves it
  private pointed: string | undefined;
  private dots: Dot[] = [];
  private ink: Ink;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly options: MapOptions,
  ) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("this browser has no canvas");
    this.context = context;
    this.ink = inkOf(canvas);
    new ResizeObserver(() => requestAnimationFrame(() => this.resize())).observe(canvas);
  }

  /** Reads the colours again: light has become dark, or dark light. */
  recolour(): void {
    this.ink = inkOf(this.canvas);
    this.options.redraw();
  }

  /** Loads the outlines that the present zoom needs. Without them the map works
   * as well, on an empty sea. */
  async load(): Promise<void> {
    const detail: Detail = this.camera.k >= FINE_FROM ? "50m" : "110m";
    if (this.loading === detail || this.loading === "50m") return;
    this.loading = detail;
    try {
      const { loadLand } = await import("./land");
      const land = await loadLand(detail);
      if (this.land?.detail !== "50m") this.land = land;
      this.canvas.dataset["land"] = this.land.detail;
      this.options.redraw();
    } catch {
      this.canvas.dataset["land"] = "missing";
      this.loading = undefined; // the next zoom asks again
    }
  }

  fitFleet(): void {
    this.follows = true;
    this.place(true);
    this.options.redraw();
  }

  zoomBy(factor: number, px = this.size.width / 2, py = this.size.height / 2): void {
    this.move(zoom(this.camera, factor, px, py, this.size));
  }

  panBy(dx: number, dy: number): void {
    this.move(pan(this.camera, dx, dy, this.size));
  }

  /** What stands at the pixel, the nearest first. */
  at(px: number, py: number): Device | undefined {
    let best: Device | undefined;
    let least = REACH * REACH;
    for (const { device, x, y } of this.dots) {
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < least) [best, least] = [device, distance];
    }
    return best;
  }

  point(px: number, py: number): void {
    const name = this.at(px, py)?.name;
    if (name === this.pointed) return;
    this.pointed = name;
    this.canvas.classList.toggle("on-dot", name !== undefined);
    this.options.redraw();
  }

  click(px: number, py: number, more: boolean): void {
    const device = this.at(px, py);
    if (device !== undefined) this.options.choose(device.name, more);
  }

  draw(): void {
    if (this.size.width === 0) return;
    this.place(false);
    const { context, camera, size, ink } = this;
    const ratio = window.devicePixelRatio;
    paintGround(context, { camera, size, ink, ratio }, this.land);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    paintGrid(context, { camera, size, ink, ratio });
    const labels = new Labels(size);
    this.gather();
    this.paintDots();
    this.paintNames(labels);
    if (this.land !== undefined) labels.countries(context, this.land.names, camera, ink);
    paintScale(context, { camera, size, ink, ratio });
    this.canvas.dataset["devices"] = String(this.options.fleet.placed);
    this.canvas.dataset["visible"] = String(this.dots.length);
  }

  private move(camera: Camera): void {
    this.follows = false;
    this.camera = camera;
    void this.load();
    this.options.redraw();
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === 0 || height === 0) return;
    const before = this.size;
    this.size = { width, height };
    this.canvas.width = Math.round(width * window.devicePixelRatio);
    this.canvas.height = Math.round(height * window.devicePixelRatio);
    if (this.follows || before.width === 0) this.place(true);
    else this.camera = pan(this.camera, (width - before.width) / 2, (height - before.height) / 2, this.size);
    this.options.redraw();
  }

  /** Follows the fleet, with as few movements as keep it in sight. */
  private place(always: boolean): void {
    if (!this.follows || this.size.width === 0) return;
    const box = boxOf(places(this.options.fleet));
    if (box === undefined) {
      if (always) this.camera = overview(this.size);
      return;
    }
    if (!always && !misfit(this.camera, box, this.size)) return;
    this.camera = fit(box, this.size);
    if (this.land !== undefined) void this.load();
  }

  /** The dots in sight. */
  private gather(): void {
    const { camera, size } = this;
    this.dots = [];
    for (const device of this.options.fleet.devices.values()) {
      if (device.place === undefined) continue;
      const x = worldX(device.place.lon) * camera.k + camera.x;
      const y = worldY(device.place.lat) * camera.k + camera.y;
      if (x < -8 || y < -8 || x > size.width + 8 || y > size.height + 8) continue;
      this.dots.push({ device, x, y });
    }
  }

  private paintDots(): void {
    const now = Date.now();
    const fresh = new Path2D();
    const silent = new Path2D();
    const special: [Dot, string][] = [];
    const radius = this.dots.length > 1500 ? 2.5 : this.dots.length > 200 ? 3.5 : 4.5;
    for (const dot of this.dots) {
      const { device, x, y } = dot;
      const colour = this.options.colourOf(device.name);
      if (colour !== undefined || device.name === this.pointed) {
        special.push([dot, colour ?? this.ink.dot]);
        continue;
      }
      const path = isFresh(device, now) ? fresh : silent;
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 2 * Math.PI);
    }
    const { context, ink } = this;
    context.lineWidth = 1;
    context.strokeStyle = ink.halo;
    for (const [path, colour] of [[silent, ink.silent], [fresh, ink.dot]] as const) {
      context.fillStyle = colour;
      context.fill(path);
      if (this.dots.length <= 1500) context.stroke(path);
    }
    for (const [dot, colour] of special) this.paintSpecial(dot, colour);
  }

  private paintSpecial({ device, x, y }: Dot, colour: string): void {
    const { context, ink } = this;
    context.beginPath();
    context.arc(x, y, 6, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.strokeStyle = ink.halo;
    context.lineWidth = 2;
    context.fill();
    context.stroke();
    if (device.name !== this.options.chosen()) return;
    context.beginPath();
    context.arc(x, y, 10, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.stroke();
  }

  /** Names of devices: those pointed at or on the chart always, others as room allows. */
  private paintNames(labels: Labels): void {
    const first: Dot[] = [];
    const rest: Dot[] = [];
    for (const dot of this.dots) {
      const name = dot.device.name;
      const special = name === this.pointed || this.options.colourOf(name) !== undefined;
      (special ? first : rest).push(dot);
    }
    for (const dot of first) labels.device(this.context, dot.device.name, dot, this.ink, true);
    if (rest.length > LABELS * 6) return; // a crowd: names would only be noise
    let left = LABELS;
    for (const dot of rest) {
      if (left === 0) return;
      if (labels.device(this.context, dot.device.name, dot, this.ink, false)) left--;
    }
  }
}

function* places(fleet: Fleet) {
  for (const { place } of fleet.devices.values()) if (place !== undefined) yield place;
}

function inkOf(element: Element): Ink {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(`--map-${name}`).trim();
  return {
    sea: colour("sea"),
    ground: colour("ground"),
    border: colour("border"),
    coast: colour("coast"),
    grid: colour("grid"),
    faint: colour("faint"),
    dot: colour("dot"),
    silent: colour("silent"),
    halo: colour("halo"),
    text: colour("text"),
    font: style.fontFamily,
  };
}
