// The devices on the chart: a chip each, with its colour and a value.

import type { Fleet } from "./fleet";
import { formatValue } from "./format";
import { make, setText } from "./page";
import type { Selection } from "./selection";

export class Legend {
  private key = "";
  private readonly outputs = new Map<string, HTMLElement>();

  constructor(
    private readonly element: HTMLElement,
    private readonly fleet: Fleet,
    private readonly selection: Selection,
  ) {}

  /** Shows the values under the pointer, or the last ones without a pointer. */
  draw(colours: readonly string[], pointed: ReadonlyMap<string, number> | undefined): void {
    const { charted, metric = "" } = this.selection;
    const key = JSON.stringify([charted, colours]);
    if (key !== this.key) {
      this.key = key;
      this.outputs.clear();
      const chips = charted.map(({ name, slot }) => this.chip(name, colours[slot] ?? ""));
      this.element.replaceChildren(...chips);
    }
    for (const [name, output] of this.outputs) {
      const last = this.fleet.devices.get(name)?.values.get(metric)?.value;
      const value = pointed === undefined ? last : pointed.get(name);
      setText(output, value === undefined ? "–" : formatValue(value, metric));
    }
  }

  private chip(name: string, colour: string): HTMLElement {
    const item = make("li", "");
    item.dataset["device"] = name;
    const swatch = make("span", "swatch");
    swatch.style.background = colour;
    const output = make("output", "", "–");
    this.outputs.set(name, output);
    item.append(swatch, make("span", "name", name), output);
    if (this.selection.charted.length > 1) item.append(this.remover(name));
    return item;
  }

  private remover(name: string): HTMLElement {
    const button = make("button", "", "×");
    button.type = "button";
    button.title = `Take ${name} off the chart`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => this.selection.remove(name));
    return button;
  }
}
