// What the user has chosen: one device to look at, a few on the chart, a metric.

/** As many devices stand on the chart as there are colours to tell them apart. */
export const MAX_CHARTED = 6;

export class Selection {
  /** The device whose values are shown; always on the chart as well. */
  chosen: string | undefined;
  metric: string | undefined;
  /** By colour, so that a device keeps its own while others come and go. */
  private readonly slots: (string | undefined)[] = new Array(MAX_CHARTED).fill(undefined);

  constructor(private readonly changed: () => void) {}

  /** Shows a device alone, or, with `more`, puts it on the chart beside the others
   * or takes it off. With the chart full it takes the last colour. */
  choose(name: string, more: boolean): void {
    if (!more) {
      const only = this.slots.filter((slot) => slot !== undefined).length === 1;
      if (only && this.chosen === name && this.slotOf(name) >= 0) return;
      const slot = Math.max(0, this.slotOf(name));
      this.slots.fill(undefined);
      this.slots[slot] = name;
      this.chosen = name;
    } else if (this.slotOf(name) >= 0) {
      this.remove(name);
      return;
    } else {
      const free = this.slots.indexOf(undefined);
      this.slots[free < 0 ? MAX_CHARTED - 1 : free] = name;
      this.chosen = name;
    }
    this.changed();
  }

  /** Takes a device off the chart; the last one stays. */
  remove(name: string): void {
    const slot = this.slotOf(name);
    if (slot < 0 || this.charted.length === 1) return;
    this.slots[slot] = undefined;
    if (this.chosen === name) this.chosen = this.charted[0]?.name;
    this.changed();
  }

  measure(metric: string): void {
    if (metric === this.metric) return;
    this.metric = metric;
    this.changed();
  }

  /** The devices on the chart, and which colour each has, from 0. */
  get charted(): { name: string; slot: number }[] {
    return this.slots.flatMap((name, slot) => (name === undefined ? [] : [{ name, slot }]));
  }

  /** The colour of a device on the chart, or -1. */
  slotOf(name: string): number {
    return this.slots.indexOf(name);
  }
}
