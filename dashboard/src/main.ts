// The page: the feed's readings go into the fleet, and the views draw the fleet.
//
//	/v1/ws ──▶ Feed ──▶ Fleet, Rate, Chart ──▶ Frames ──▶ list, map, values, chart
//	/v1/readings ───────────────▲

import { Chart } from "./chart";
import { Feed, type Socket } from "./feed";
import { Fleet, type Order } from "./fleet";
import { Frames } from "./frame";
import { fetchPast, type Points } from "./history";
import { Legend } from "./legend";
import { DeviceList } from "./list";
import { FleetMap } from "./map";
import { Masthead } from "./masthead";
import { MetricSelect } from "./metrics";
import { byId, setText } from "./page";
import { Rate } from "./rate";
import type { Reading } from "./reading";
import { MAX_CHARTED, Selection } from "./selection";
import { Server } from "./server";
import { steer } from "./steer";
import { ValueTable } from "./values";

const server = new Server();
const fleet = new Fleet();
const rate = new Rate();
const frames = new Frames();
const selection = new Selection(follow);
let colours = readColours();
let pointed: ReadonlyMap<string, number> | undefined;

// How often each view may be drawn, in ms: the map moves, the rest is read.
const drawList = frames.view(() => 250, () => list.draw());
const drawMap = frames.view(() => map.interval, () => map.draw());
const drawChart = frames.view(() => 250, () => chart.draw(Date.now()));
const drawText = frames.view(() => 250, drawTexts);

const choice = {
  fleet,
  colourOf: (name: string) => colours[selection.slotOf(name)],
  chosen: () => selection.chosen,
  choose: (name: string, more: boolean) => selection.choose(name, more),
};
const list = new DeviceList(byId("list"), { ...choice, redraw: drawList });
const canvas = byId<HTMLCanvasElement>("map");
const map = new FleetMap(canvas, {
  ...choice,
  choose: (name, more) => {
    selection.choose(name, more);
    list.reveal(name);
  },
  redraw: drawMap,
});
const metric = new MetricSelect(fleet, selection);
const legend = new Legend(byId("legend"), fleet, selection);
const values = new ValueTable(byId<HTMLTableSectionElement>("values"), (name) => selection.measure(name));
const chart = new Chart(byId("chart"), {
  selection,
  colours: () => colours,
  past,
  pointed: (under) => {
    pointed = under;
    drawText();
  },
  redraw: drawChart,
});
const feed = new Feed(
  {
    connect: () => new WebSocket(server.live()) as Socket,
    after: (ms, fire) => {
      const timer = setTimeout(fire, ms);
      return () => clearTimeout(timer);
    },
    random: Math.random,
    refusal: () => server.refusal(),
  },
  {
    readings: hear,
    state: (state, detail) => masthead.state(state, detail, feed.resumes),
    missed: () => chart.reload(),
  },
);
const masthead = new Masthead((token) => {
  server.use(token);
  feed.restart();
});

function hear(batch: Reading[], live: boolean): void {
  const now = Date.now();
  for (const reading of batch) {
    fleet.apply(reading, now, live);
    chart.hear(reading);
  }
  if (live) rate.add(batch.length, performance.now());
  drawList();
  drawMap();
  drawText();
}

/** The past of a metric, over `length` seconds. What plays a recording has its
 * own today: its past is counted from its newest reading. */
function past(name: string, of: string, length: number): Promise<Points | undefined> {
  const newest = fleet.devices.get(name)?.time ?? 0;
  const now = Date.now();
  const end = newest > 0 && newest < now - length * 1000 ? newest : now;
  return fetchPast(server.ask, { device: name, metric: of, end, length });
}

/** The selection is another one: every view shows it. */
function follow(): void {
  metric.draw();
  chart.follow();
  drawList();
  drawMap();
  drawText();
}

function drawTexts(): void {
  masthead.numbers({
    rate: rate.read(performance.now()),
    devices: fleet.devices.size,
    readings: rate.total,
  });
  const device = fleet.devices.get(selection.chosen ?? "");
  setText(byId("detail-title"), device?.name ?? "No device chosen");
  values.show(device, selection.metric);
  metric.draw();
  legend.draw(colours, pointed);
  byId("map-empty").hidden = fleet.placed > 0 || fleet.devices.size === 0;
  // Until somebody chooses, the first device stands on the chart.
  if (device === undefined && list.first !== undefined) selection.choose(list.first, false);
}

function readColours(): string[] {
  const style = getComputedStyle(document.documentElement);
  return Array.from({ length: MAX_CHARTED }, (_, i) => style.getPropertyValue(`--series-${i}`).trim());
}

function recolour(): void {
  colours = readColours();
  map.recolour();
  chart.recolour();
  drawList();
  drawText();
}

function listen(): void {
  const search = byId<HTMLInputElement>("search");
  search.addEventListener("input", () => list.search(search.value));
  const order = byId<HTMLSelectElement>("order");
  order.addEventListener("change", () => list.sort(order.value as Order));
  const span = byId<HTMLSelectElement>("span");
  span.addEventListener("change", () => chart.span(Number(span.value)));
  steer(canvas, map);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  // What is said to be "12 s ago" grows old by itself.
  setInterval(() => {
    for (const draw of [drawList, drawMap, drawText, drawChart]) draw();
  }, 1000);
  window.addEventListener("online", () => feed.start());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) feed.start();
  });
}

listen();
feed.start();
// The outlines come last: they must not hold up the first readings.
const idle = window.requestIdleCallback ?? ((then: () => void) => setTimeout(then, 200));
idle(() => void map.load(), { timeout: 1000 });
