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
  /** Its colour, if it is on the chart or pointed at. */
  colour: string | undefined;
  x: number;
  y: number;
}

const FINE_FROM = 1800; // pixels a world: closer than this, fine outlines are worth their bytes
const REACH = 14; // px around a dot in which a click or a pointer means it
const CROWD = 1500; // dots
const LABELS = 60; // at most so many names of devices

export class FleetMap {
  private camera: Camera = { k: 1, x: 0, y: 0 };
  private size: Size = { width: 0, height: 0 };
  private context: CanvasRenderingContext2D;
  private land: Land | undefined;
  private loading = false;
  private touched = -Infinity; // when a hand last moved the map
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
    if (this.loading || this.land?.detail === detail || this.land?.detail === "50m") return;
    this.loading = true;
    try {
      const { loadLand } = await import("./land");
      this.land = await loadLand(detail);
      this.canvas.dataset["land"] = detail;
    } catch {
      if (this.land === undefined) this.canvas.dataset["land"] = "missing";
      return; // the next zoom asks again
    } finally {
      this.loading = false;
    }
    this.options.redraw();
    await this.load(); // the camera may have come closer meanwhile
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

  /** How often to draw, in ms: at once for a hand on the map; for news of a crowd,
   * in which one dot does not tell, seldom. */
  get interval(): number {
    const steered = performance.now() - this.touched < 300;
    return this.crowded && !steered ? 150 : 33;
  }

  private get crowded(): boolean {
    return this.dots.length > CROWD;
  }

  draw(): void {
    if (this.size.width === 0) return;
    this.place(false);
    const { context, camera, size, ink } = this;
    const ratio = window.devicePixelRatio;
    paintGround(context, { camera, size, ink, ratio }, this.land);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    paintGrid(context, { camera, size, ink, ratio });
    if (this.land !== undefined) new Labels(size).countries(context, this.land.names, camera, ink);
    this.gather();
    this.paintDots();
    this.paintNames(new Labels(size));
    paintScale(context, { camera, size, ink, ratio });
    this.canvas.dataset["devices"] = String(this.options.fleet.placed);
    this.canvas.dataset["visible"] = String(this.dots.length);
  }

  private move(camera: Camera): void {
    this.touched = performance.now();
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
      const pointed = device.name === this.pointed ? this.ink.dot : undefined;
      this.dots.push({ device, x, y, colour: this.options.colourOf(device.name) ?? pointed });
    }
  }

  /** All dots are copies of two small pictures, put on whole pixels: a path of
   * thousands of circles, or pictures between pixels, cost many times as much. */
  private paintDots(): void {
    const now = Date.now();
    const radius = this.crowded ? 2.5 : this.dots.length > 200 ? 3.5 : 4.5;
    const { context, ink } = this;
    const fresh = stamp(ink.dot, ink.halo, radius);
    const silent = stamp(ink.silent, ink.halo, radius);
    const special: Dot[] = [];
    const half = fresh.width / 2;
    const ratio = window.devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (const dot of this.dots) {
      if (dot.colour !== undefined) {
        special.push(dot);
        continue;
      }
      const picture = isFresh(dot.device, now) ? fresh : silent;
      context.drawImage(picture, Math.round(dot.x * ratio - half), Math.round(dot.y * ratio - half));
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const dot of special) this.paintSpecial(dot);
  }

  private paintSpecial({ device, x, y, colour = "" }: Dot): void {
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
    const special = this.dots.filter((dot) => dot.colour !== undefined);
    for (const dot of special) labels.device(this.context, dot.device.name, dot, this.ink, true);
    if (this.dots.length > LABELS * 6) return; // a crowd: names would only be noise
    for (const dot of this.dots) labels.keepFree(dot);
    let left = LABELS;
    for (const dot of this.dots) {
      if (left === 0) return;
      if (dot.colour !== undefined) continue;
      if (labels.device(this.context, dot.device.name, dot, this.ink, false)) left--;
    }
  }
}

/** A picture of one dot, in canvas pixels. */
function stamp(colour: string, rim: string, radius: number): HTMLCanvasElement {
  const side = 2 * radius + 2;
  const picture = document.createElement("canvas");
  picture.width = picture.height = Math.ceil(side * window.devicePixelRatio);
  const context = picture.getContext("2d");
  if (context === null) return picture;
  context.scale(picture.width / side, picture.height / side);
  context.arc(side / 2, side / 2, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = rim;
  context.stroke();
  return picture;
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
