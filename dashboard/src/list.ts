// The list of devices. However many there are, only the rows in sight exist.

import { arrange, isFresh, type Device, type Fleet, type Order } from "./fleet";
import { formatAgo, formatTime, summarise } from "./format";
import { byId, make, setAttribute, setText } from "./page";

export interface ListOptions {
  fleet: Fleet;
  colourOf(name: string): string | undefined;
  chosen(): string | undefined;
  choose(name: string, more: boolean): void;
  redraw(): void;
}

/** The height of a row in px; style.css says the same. */
const ROW = 52;
const SPARE = 4; // rows beyond the edges, so that scrolling shows no holes
const SETTLE = 1000; // ms between two sortings by time: rows that jump cannot be read

interface Row {
  element: HTMLElement;
  dot: HTMLElement;
  name: HTMLElement;
  ago: HTMLElement;
  values: HTMLElement;
  chart: HTMLButtonElement;
}

export class DeviceList {
  private readonly rows: Row[] = [];
  private readonly spacer = make("div", "spacer");
  private readonly empty = byId("list-empty");
  private shown: Device[] = [];
  private members = -1;
  private sorted = -Infinity;
  private stale = true;
  private active = 0;
  private query = "";
  private order: Order = "name";

  constructor(
    private readonly element: HTMLElement,
    private readonly options: ListOptions,
  ) {
    this.spacer.setAttribute("role", "presentation");
    element.append(this.spacer);
    element.addEventListener("scroll", () => options.redraw(), { passive: true });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => options.redraw()).observe(element);
  }

  search(query: string): void {
    this.query = query;
    this.rearrange();
  }

  sort(order: Order): void {
    this.order = order;
    this.rearrange();
  }

  /** The first device of the list. */
  get first(): string | undefined {
    return this.shown[0]?.name;
  }

  /** Scrolls the chosen device into sight. */
  reveal(name: string): void {
    const at = this.shown.findIndex((device) => device.name === name);
    if (at < 0) return;
    this.active = at;
    this.scrollTo(at);
    this.options.redraw();
  }

  draw(): void {
    this.arrange();
    const { scrollTop, clientHeight } = this.element;
    const from = Math.max(0, Math.floor(scrollTop / ROW) - SPARE);
    const to = Math.min(this.shown.length, Math.ceil((scrollTop + clientHeight) / ROW) + SPARE);
    while (this.rows.length < to - from) this.rows.push(this.newRow());
    const now = Date.now();
    this.rows.forEach((row, i) => this.fill(row, from + i < to ? from + i : -1, now));
    const active = this.rows[this.active - from];
    if (active !== undefined && this.shown.length > 0) {
      this.element.setAttribute("aria-activedescendant", active.element.id);
    } else {
      this.element.removeAttribute("aria-activedescendant");
    }
  }

  private rearrange(): void {
    this.stale = true;
    this.active = 0;
    this.element.scrollTop = 0;
    this.options.redraw();
  }

  private arrange(): void {
    const { fleet } = this.options;
    const now = performance.now();
    const moved = this.order !== "name" && now - this.sorted > SETTLE;
    const grown = fleet.members !== this.members && now - this.sorted > SETTLE / 4;
    if (!this.stale && !moved && !grown) return;
    this.shown = arrange(fleet, this.query, this.order);
    this.members = fleet.members;
    this.sorted = now;
    this.stale = false;
    this.spacer.style.height = `${this.shown.length * ROW}px`;
    this.element.dataset["found"] = String(this.shown.length);
    const none = fleet.devices.size === 0 ? "No device has spoken yet." : "No device has such a name.";
    setText(this.empty, none);
    this.empty.hidden = this.shown.length > 0;
  }

  private newRow(): Row {
    const element = make("div", "row");
    element.id = `row-${this.rows.length}`;
    element.setAttribute("role", "option");
    const row = {
      element,
      dot: make("span", "dot"),
      name: make("span", "name"),
      ago: make("span", "ago"),
      values: make("span", "said"),
      chart: make("button", "add"),
    };
    element.append(row.dot, row.name, row.ago, row.values, row.chart);
    row.chart.tabIndex = -1; // the space bar does the same
    row.chart.type = "button";
    this.spacer.append(element);
    return row;
  }

  private fill(row: Row, at: number, now: number): void {
    const device = this.shown[at];
    const { element } = row;
    if (element.hidden !== (device === undefined)) element.hidden = device === undefined;
    if (device === undefined) return;
    const colour = this.options.colourOf(device.name);
    const chosen = device.name === this.options.chosen();
    if (element.dataset["device"] !== device.name || element.dataset["at"] !== String(at)) {
      element.dataset["device"] = device.name;
      element.dataset["at"] = String(at);
      element.style.transform = `translateY(${at * ROW}px)`;
      element.setAttribute("aria-posinset", String(at + 1));
      row.name.textContent = device.name;
    }
    setAttribute(element, "aria-setsize", String(this.shown.length));
    setAttribute(element, "aria-selected", String(colour !== undefined));
    element.classList.toggle("chosen", chosen);
    element.classList.toggle("active", at === this.active);
    element.classList.toggle("fresh", isFresh(device, now));
    row.dot.style.backgroundColor = colour ?? "";
    setText(row.ago, formatAgo(device.time, now));
    setAttribute(row.ago, "title", formatTime(device.stamp));
    setText(row.values, summarise(device.values));
    setText(row.chart, colour === undefined ? "+" : "−");
    const what = colour === undefined ? `Add ${device.name} to the chart` : `Take ${device.name} off the chart`;
    setAttribute(row.chart, "title", what);
    setAttribute(row.chart, "aria-label", what);
  }

  private click(event: MouseEvent): void {
    const target = event.target as HTMLElement;
    const row = target.closest<HTMLElement>(".row");
    const name = row?.dataset["device"];
    if (row === null || name === undefined) return;
    this.active = Number(row.dataset["at"]);
    const more = target.closest(".add") !== null || event.ctrlKey || event.metaKey || event.shiftKey;
    this.options.choose(name, more);
  }

  private key(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 1);
    const last = this.shown.length - 1;
    const steps: Record<string, number> = {
      ArrowDown: this.active + 1,
      ArrowUp: this.active - 1,
      PageDown: this.active + page,
      PageUp: this.active - page,
      Home: 0,
      End: last,
    };
    const to = steps[event.key];
    if (to !== undefined) {
      this.active = Math.max(0, Math.min(last, to));
      this.scrollTo(this.active);
      this.options.redraw();
    } else if (event.key === "Enter" || event.key === " ") {
      const device = this.shown[this.active];
      if (device !== undefined) this.options.choose(device.name, event.key === " ");
    } else {
      return;
    }
    event.preventDefault();
  }

  private scrollTo(at: number): void {
    const { scrollTop, clientHeight } = this.element;
    if (at * ROW < scrollTop) this.element.scrollTop = at * ROW;
    else if ((at + 1) * ROW > scrollTop + clientHeight) {
      this.element.scrollTop = (at + 1) * ROW - clientHeight;
    }
  }
}
