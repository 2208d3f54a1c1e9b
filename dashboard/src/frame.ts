// When views are drawn: never more than once a frame, and each no more often
// than an eye can follow.

export class Frames {
  private readonly views: View[] = [];
  private scheduled = false;
  private alarm = 0;

  /** A view that is drawn at most every `interval()` ms. The answer asks for it. */
  view(interval: () => number, draw: (now: number) => void): () => void {
    const view: View = { interval, draw, due: false, drawn: -Infinity };
    this.views.push(view);
    return () => {
      view.due = true;
      this.schedule();
    };
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame((now) => this.run(now));
  }

  private run(now: number): void {
    this.scheduled = false;
    let next = Infinity;
    for (const view of this.views) {
      if (!view.due) continue;
      const wait = view.drawn + view.interval() - now;
      if (wait > 1) {
        next = Math.min(next, wait);
        continue;
      }
      view.due = false;
      view.drawn = now;
      view.draw(now);
    }
    // Those that must wait are woken by a timer, not by sixty idle frames a second.
    clearTimeout(this.alarm);
    if (next < Infinity) this.alarm = window.setTimeout(() => this.schedule(), next);
  }
}

interface View {
  interval: () => number;
  draw: (now: number) => void;
  due: boolean;
  drawn: number;
}
