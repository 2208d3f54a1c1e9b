// The chart: one metric of a few devices, the recent past and what comes live.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatValue } from "./format";
import { plottable, type Reading } from "./reading";
import { MAX_CHARTED, type Selection } from "./selection";
import { align, Trace, windowOf, type Table } from "./trace";

export interface ChartOptions {
  selection: Selection;
  colours(): readonly string[];
  /** The past of a device's metric, or undefined if the server has none to tell. */
  past(device: string, metric: string, length: number): Promise<[number[], number[]] | undefined>;
  /** Values under the pointer, by device; undefined without a pointer. */
  pointed(values: Map<string, number> | undefined): void;
  redraw(): void;
}

interface Line {
  metric: string;
  trace: Trace;
}

/** The sink is a moment behind the log: what it stored between the first look at
 * the past and the first live reading is fetched a little later, in ms. */
const SEAM = 4000;

export class Chart {
  private readonly lines = new Map<string, Line>();
  private plot: uPlot | undefined;
  private drawn = ""; // what the plot was made for
  private length = 3600; // s
  private asked = 0;

  constructor(
    private readonly element: HTMLElement,
    private readonly options: ChartOptions,
  ) {
    // A frame later: what is resized within the callback would be reported again.
    new ResizeObserver(() => requestAnimationFrame(() => this.resize())).observe(element);
  }

  /** Shows the last `seconds`. */
  span(seconds: number): void {
    this.length = seconds;
    this.reload();
  }

  /** Keeps what is heard of a device on the chart. */
  hear(reading: Reading): void {
    const line = this.lines.get(reading.device);
    if (line === undefined) return;
    const value = plottable(reading.values[line.metric]);
    if (value === undefined) return;
    line.trace.add(Date.parse(reading.time) / 1000, value);
    this.options.redraw();
  }

  /** Follows the selection: new lines get their past, old ones go. */
  follow(): void {
    const { selection } = this.options;
    const metric = selection.metric;
    const wanted = new Set(selection.charted.map(({ name }) => name));
    for (const [name, line] of this.lines) {
      if (!wanted.has(name) || line.metric !== metric) this.lines.delete(name);
    }
    if (metric !== undefined) {
      for (const name of wanted) {
        if (this.lines.has(name)) continue;
        this.lines.set(name, { metric, trace: new Trace() });
        void this.recall([name]);
      }
    }
    this.options.redraw();
  }

  /** Fetches the past of every line again: readings were missed. */
  reload(): void {
    void this.recall([...this.lines.keys()]);
    this.options.redraw();
  }

  recolour(): void {
    this.drawn = "";
    this.options.redraw();
  }

  draw(now: number): void {
    const charted = this.options.selection.charted.filter(({ name }) => this.lines.has(name));
    const traces = charted.map(({ name }) => (this.lines.get(name) as Line).trace);
    const [begin, end] = windowOf(traces, this.length, now / 1000);
    const table = align(traces, begin, end);
    const { dataset } = this.element;
    dataset["metric"] = this.options.selection.metric ?? "";
    dataset["series"] = String(charted.length);
    dataset["points"] = String(table[0].length);
    const made = `${dataset["metric"]}\n${charted.map(({ name, slot }) => `${name} ${slot}`).join("\n")}`;
    if (this.plot === undefined || made !== this.drawn) {
      this.drawn = made;
      this.make(charted, table, [begin, end]);
    } else {
      this.plot.setData(table as uPlot.AlignedData, false);
    }
    this.plot?.setScale("x", { min: begin, max: end });
  }

  private async recall(names: string[]): Promise<void> {
    const ticket = ++this.asked;
    this.element.dataset["past"] = "loading";
    const found = await Promise.all(names.map((name) => this.recallOne(name)));
    if (ticket === this.asked) {
      this.element.dataset["past"] = found.every(Boolean) ? "loaded" : "missing";
      this.options.redraw();
    }
  }

  private async recallOne(name: string): Promise<boolean> {
    const line = this.lines.get(name);
    if (line === undefined) return true;
    if (!(await this.merge(name, line, this.length))) return false;
    setTimeout(() => void this.merge(name, line, SEAM / 200), SEAM);
    return true;
  }

  private async merge(name: string, line: Line, length: number): Promise<boolean> {
    if (this.lines.get(name) !== line) return true; // gone meanwhile
    const points = await this.options.past(name, line.metric, length);
    if (points === undefined) return false;
    line.trace.merge(...points);
    this.options.redraw();
    return true;
  }

  private make(charted: { name: string; slot: number }[], table: Table, x: [number, number]): void {
    this.plot?.destroy();
    this.plot = undefined;
    const { clientWidth: width, clientHeight: height } = this.element;
    if (charted.length === 0 || width === 0 || height === 0) return;
    const style = getComputedStyle(this.element);
    const ink = style.getPropertyValue("--faint").trim();
    const grid = style.getPropertyValue("--line").trim();
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
    const colours = this.options.colours();
    const plot = new uPlot(
      {
        width,
        height,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        scales: { x: { time: true, min: x[0], max: x[1] }, y: { range: padded } },
        axes: [
          { ...axis, values: clock, space: 70, size: 38 },
          { ...axis, size: 58, values: (_, ticks) => ticks.map((tick) => formatValue(tick)) },
        ],
        series: [
          {},
          ...charted.map(({ name, slot }) => ({
            label: name,
            stroke: colours[slot % MAX_CHARTED] ?? ink,
            width: 1.75,
            points: { size: 5 },
          })),
        ],
        hooks: { setCursor: [(at) => this.pointed(at, charted)] },
      },
      table as uPlot.AlignedData,
      this.element,
    );
    this.plot = plot;
  }

  /** Tells the values next to the pointer; each line has its own times. */
  private pointed(plot: uPlot, charted: { name: string; slot: number }[]): void {
    const at = plot.cursor.idx;
    if (at === undefined || at === null || (plot.cursor.left ?? -1) < 0) {
      this.options.pointed(undefined);
      return;
    }
    const values = new Map<string, number>();
    charted.forEach(({ name }, i) => {
      const column = plot.data[i + 1] ?? [];
      let near = at;
      while (near >= 0 && typeof column[near] !== "number") near--;
      const value = column[near];
      if (typeof value === "number") values.set(name, value);
    });
    this.options.pointed(values);
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width === 0 || height === 0) return;
    if (this.plot === undefined) this.options.redraw();
    else this.plot.setSize({ width, height });
  }
}

/** Some air above and below; a constant gets its value in the middle. */
function padded(_: uPlot, low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const air = high > low ? (high - low) * 0.08 : Math.max(Math.abs(high) * 0.1, 0.5);
  return [low - air, high + air];
}

/** Times on the axis: 24 hours, the day in the second line. From, by the step in
 * seconds: the text; the second line when year, month, day … change. */
const day = "\n{D} {MMM} {YYYY}";
const clock: uPlot.Axis.Values = [
  [86400 * 365, "{YYYY}", null, null, null, null, null, null, 1],
  [86400 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", day, null, day, null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", day, null, day, null, null, null, 1],
  [0.001, "{ss}.{fff}", day, null, day, null, "\n{HH}:{mm}", null, 1],
];
