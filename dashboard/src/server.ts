// The server as the page meets it: addresses, the token, and why it refuses.

import { keepToken, takeToken } from "./token";

export class Server {
  private token = takeToken(window);

  /** Uses another token from now on, and after a reload of this tab. */
  use(token: string): void {
    this.token = token;
    keepToken(window, token);
  }

  /** The address of the live door. A WebSocket cannot carry headers in a
   * browser, so the token goes into the query. */
  live(): string {
    const url = this.door();
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  ask = (path: string): Promise<Response> =>
    fetch(path, this.token === undefined ? {} : { headers: { Authorization: `Bearer ${this.token}` } });

  /** Why the live door refuses, if it does. A browser does not tell why a
   * WebSocket failed; the same door's answer to a plain request does. */
  async refusal(): Promise<string | undefined> {
    try {
      const { status } = await fetch(this.door());
      if (status === 401) return this.token === undefined ? "a token is needed" : "the token is not accepted";
      if (status === 403) return "this token may not watch";
    } catch {
      // Nobody is there: that is no refusal.
    }
    return undefined;
  }

  private door(): URL {
    const url = new URL("/v1/ws", location.href);
    if (this.token !== undefined) url.searchParams.set("token", this.token);
    return url;
  }
}
