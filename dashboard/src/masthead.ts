// The top of the page: is it live, how much comes in, how many devices there are.

import type { State } from "./feed";
import { formatCount, formatRate } from "./format";
import { byId, setText } from "./page";

export interface Numbers {
  rate: number;
  devices: number;
  readings: number;
}

/** The same facts stand as data attributes on the body, for tests and tools. */
export class Masthead {
  private readonly facts = document.body.dataset;
  private readonly word = byId("state-word");
  private readonly detail = byId("state-detail");
  private readonly rate = byId("rate");
  private readonly devices = byId("devices-count");
  private readonly readings = byId("readings-count");
  private readonly form = byId("token-form");

  /** `connect` is called with the token that somebody typed. */
  constructor(connect: (token: string) => void) {
    const input = byId<HTMLInputElement>("token");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      connect(input.value.trim());
      input.value = "";
    });
  }

  state(state: State, detail: string, resumes: number): void {
    this.facts["state"] = state;
    this.facts["resumes"] = String(resumes);
    setText(this.word, state);
    setText(this.detail, detail === "" ? "" : `: ${detail}`);
    this.form.hidden = state !== "refused";
  }

  numbers({ rate, devices, readings }: Numbers): void {
    this.facts["rate"] = rate.toFixed(1);
    this.facts["devices"] = String(devices);
    this.facts["readings"] = String(readings);
    setText(this.rate, formatRate(rate));
    setText(this.devices, formatCount(devices));
    setText(this.readings, formatCount(readings));
  }
}
