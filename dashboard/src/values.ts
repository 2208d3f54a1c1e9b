// The chosen device's last values, each with a button that charts it.

import type { Device } from "./fleet";
import { formatAgo, formatTime, formatValue } from "./format";
import { make, setText } from "./page";
import { plottable } from "./reading";

interface Line {
  row: HTMLTableRowElement;
  button: HTMLButtonElement;
  value: HTMLElement;
  ago: HTMLElement;
}

export class ValueTable {
  private readonly lines = new Map<string, Line>();
  private device: Device | undefined;

  constructor(
    private readonly body: HTMLTableSectionElement,
    private readonly measure: (metric: string) => void,
  ) {}

  show(device: Device | undefined, metric: string | undefined): void {
    if (device !== this.device) {
      this.device = device;
      this.lines.clear();
      this.body.replaceChildren();
    }
    if (device === undefined) return;
    const now = Date.now();
    for (const [name, { value, time }] of device.values) {
      const line = this.lines.get(name) ?? this.newLine(name);
      const plots = plottable(value) !== undefined;
      setText(line.value, formatValue(value, name));
      line.value.title = String(value);
      setText(line.ago, formatAgo(Date.parse(time), now));
      line.ago.title = formatTime(time);
      line.button.disabled = !plots;
      line.button.setAttribute("aria-pressed", String(name === metric));
    }
  }

  private newLine(name: string): Line {
    const row = make("tr", "");
    row.dataset["metric"] = name;
    const head = make("th", "");
    head.scope = "row";
    const button = make("button", "", name);
    button.type = "button";
    button.title = `Chart ${name}`;
    button.addEventListener("click", () => this.measure(name));
    head.append(button);
    const value = make("td", "value");
    const ago = make("td", "ago");
    row.append(head, value, ago);
    const line = { row, button, value, ago };
    this.lines.set(name, line);
    this.insert(row, name);
    return line;
  }

  /** In order of names, so that a metric is where it was yesterday. */
  private insert(row: HTMLTableRowElement, name: string): void {
    const names = [...this.lines.keys()].sort();
    const next = names[names.indexOf(name) + 1];
    const before = next === undefined ? null : (this.lines.get(next)?.row ?? null);
    this.body.insertBefore(row, before);
  }
}
