// The token of a server that runs with --auth. It comes in the page's address,
// and is taken out of there at once: addresses stay in histories and in logs.

const KEY = "millrace-token";

/** What the token needs of the browser. */
export interface Browser {
  location: { href: string };
  history: { state: unknown; replaceState(state: unknown, unused: string, url: string): void };
  sessionStorage: {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
  };
}

/** The token of this tab: of the address, which is cleaned of it, or the one of
 * before a reload. It is kept for the tab's life, never longer. */
export function takeToken(browser: Browser): string | undefined {
  const url = new URL(browser.location.href);
  const given = url.searchParams.get("token");
  if (given !== null) {
    url.searchParams.delete("token");
    browser.history.replaceState(browser.history.state, "", url.pathname + url.search + url.hash);
    if (given !== "") keepToken(browser, given);
  }
  try {
    return given || browser.sessionStorage.getItem(KEY) || undefined;
  } catch {
    return given || undefined; // storage is forbidden here
  }
}

export function keepToken(browser: Browser, token: string): void {
  try {
    browser.sessionStorage.setItem(KEY, token);
  } catch {
    // Storage is forbidden here: the token lives as long as the page.
  }
}
