// Steering the map: mouse, wheel, fingers, keys, and the buttons beside it.

import type { FleetMap } from "./map";
import { byId } from "./page";

const CLICK = 5; // px a pointer may stray and still click
const STEP = 60; // px a key moves the map

interface Finger {
  x: number;
  y: number;
}

/** Makes the canvas answer to pointers and keys. */
export function steer(canvas: HTMLCanvasElement, map: FleetMap): void {
  const fingers = new Map<number, Finger>();
  let strayed = 0;

  canvas.addEventListener("pointerdown", (event) => {
    if (fingers.size === 0) strayed = 0;
    fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (finger === undefined) {
      map.point(event.offsetX, event.offsetY);
      return;
    }
    const other = [...fingers.values()].find((each) => each !== finger);
    const to = { x: event.offsetX, y: event.offsetY };
    strayed += Math.abs(to.x - finger.x) + Math.abs(to.y - finger.y);
    if (other !== undefined) pinch(map, finger, to, other);
    else if (strayed > CLICK) map.panBy(to.x - finger.x, to.y - finger.y);
    fingers.set(event.pointerId, to);
  });
  const lift = (event: PointerEvent) => {
    const known = fingers.delete(event.pointerId);
    if (!known || event.type !== "pointerup" || fingers.size > 0 || strayed > CLICK) return;
    map.click(event.offsetX, event.offsetY, event.ctrlKey || event.metaKey || event.shiftKey);
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => map.point(-1000, -1000));
  canvas.addEventListener("dblclick", (event) => map.zoomBy(2, event.offsetX, event.offsetY));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 16 : event.deltaY;
      map.zoomBy(2 ** (-pixels / 250), event.offsetX, event.offsetY);
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => keys(map, event));
  byId("zoom-in").addEventListener("click", () => map.zoomBy(2));
  byId("zoom-out").addEventListener("click", () => map.zoomBy(0.5));
  byId("zoom-fit").addEventListener("click", () => map.fitFleet());
}

/** Two fingers: what was between them stays between them. */
function pinch(map: FleetMap, from: Finger, to: Finger, other: Finger): void {
  const before = Math.hypot(from.x - other.x, from.y - other.y);
  const after = Math.hypot(to.x - other.x, to.y - other.y);
  if (before > 0 && after > 0) map.zoomBy(after / before, other.x, other.y);
}

function keys(map: FleetMap, event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const moves: Record<string, () => void> = {
    ArrowLeft: () => map.panBy(STEP, 0),
    ArrowRight: () => map.panBy(-STEP, 0),
    ArrowUp: () => map.panBy(0, STEP),
    ArrowDown: () => map.panBy(0, -STEP),
    "+": () => map.zoomBy(1.5),
    "=": () => map.zoomBy(1.5),
    "-": () => map.zoomBy(1 / 1.5),
    "0": () => map.fitFleet(),
  };
  const move = moves[event.key];
  if (move === undefined) return;
  event.preventDefault();
  move();
}
