// How many readings a second, over the last seconds.

const SLOT = 250; // ms
const SLOTS = 20; // 5 s

/** Counts events in a ring of short slots. The rate is that of the last five
 * seconds, or of the time since the first event if that is shorter. */
export class Rate {
  private readonly counts = new Float64Array(SLOTS);
  private slot = 0;
  private first = -1;
  /** All there ever were. */
  total = 0;

  add(count: number, now: number): void {
    if (count === 0) return;
    this.turn(now);
    if (this.first < 0) this.first = now;
    const at = this.slot % SLOTS;
    this.counts[at] = (this.counts[at] ?? 0) + count;
    this.total += count;
  }

  /** Events a second. */
  read(now: number): number {
    if (this.first < 0) return 0;
    this.turn(now);
    let sum = 0;
    for (const count of this.counts) sum += count;
    // The running slot is not full: the window reaches up to now, not to its end.
    const full = (SLOTS - 1) * SLOT + (now - this.slot * SLOT);
    const span = Math.min(full, Math.max(now - this.first, 1000));
    return (sum * 1000) / span;
  }

  /** Empties the slots that time has passed by since the last call. */
  private turn(now: number): void {
    const slot = Math.floor(now / SLOT);
    if (slot <= this.slot) return;
    const passed = Math.min(slot - this.slot, SLOTS);
    for (let i = 0; i < passed; i++) this.counts[(slot - i) % SLOTS] = 0;
    this.slot = slot;
  }
}
