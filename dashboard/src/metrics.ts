// Which metrics can be charted, and which one is.

import type { Fleet } from "./fleet";
import { byId } from "./page";
import { plottable } from "./reading";
import type { Selection } from "./selection";

/** The metrics that the devices on the chart have as numbers; places come last. */
export function chartable(fleet: Fleet, selection: Selection): string[] {
  const names = new Set<string>();
  for (const { name } of selection.charted) {
    for (const [metric, { value }] of fleet.devices.get(name)?.values ?? []) {
      if (plottable(value) !== undefined) names.add(metric);
    }
  }
  const place = (metric: string) => (metric === "lat" || metric === "lon" ? 1 : 0);
  return [...names].sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
}

/** The box in which the metric is chosen. */
export class MetricSelect {
  private readonly select = byId<HTMLSelectElement>("metric");
  private readonly empty = byId("chart-empty");
  private listed = "";

  constructor(
    private readonly fleet: Fleet,
    private readonly selection: Selection,
  ) {
    this.select.addEventListener("change", () => selection.measure(this.select.value));
  }

  draw(): void {
    const { selection, select, empty } = this;
    const names = chartable(this.fleet, selection);
    const listed = names.join("\n");
    if (listed !== this.listed) {
      this.listed = listed;
      select.replaceChildren(...names.map((metric) => new Option(metric)));
    }
    // The chosen metric stays while any device has it.
    const first = names[0];
    if (first !== undefined && !names.includes(selection.metric ?? "")) selection.measure(first);
    select.value = selection.metric ?? "";
    select.disabled = names.length === 0;
    empty.hidden = names.length > 0;
    empty.textContent =
      selection.chosen === undefined
        ? "Choose a device to see a chart."
        : "This device has said no number yet.";
  }
}
