import { expect, test, vi } from "vitest";
import { MAX_CHARTED, Selection } from "../src/selection";
import { takeToken, type Browser } from "../src/token";

test("a device keeps its colour while others come and go", () => {
  const changed = vi.fn();
  const s = new Selection(changed);
  s.choose("a", false);
  s.choose("b", true);
  s.choose("c", true);
  s.remove("a");
  expect(s.charted).toEqual([{ name: "b", slot: 1 }, { name: "c", slot: 2 }]);
  s.choose("d", true);
  expect(s.slotOf("d")).toBe(0);
  expect(s.chosen).toBe("d");
  expect(changed).toHaveBeenCalledTimes(5);
});

test("the last device stays on the chart, and a full chart takes no more than its colours", () => {
  const s = new Selection(() => {});
  s.choose("a", false);
  s.remove("a");
  expect(s.charted.length).toBe(1);
  for (let i = 0; i < 10; i++) s.choose(`d${i}`, true);
  expect(s.charted.length).toBe(MAX_CHARTED);
  expect(s.slotOf("d9")).toBe(MAX_CHARTED - 1);
  s.choose("d9", true);
  expect(s.slotOf("d9")).toBe(-1);
  expect(s.chosen).toBe("a");
});

function browser(href: string, kept: Record<string, string> = {}): Browser & { shown: string[] } {
  const shown: string[] = [];
  return {
    shown,
    location: { href },
    history: { state: null, replaceState: (_state, _unused, url) => shown.push(url) },
    sessionStorage: {
      getItem: (key) => kept[key] ?? null,
      setItem: (key, value) => {
        kept[key] = value;
      },
    },
  };
}

test("a token is taken out of the address and lasts as long as the tab", () => {
  const kept = {};
  const first = browser("http://host/?a=1&token=s%2B1#x", kept);
  expect(takeToken(first)).toBe("s+1");
  expect(first.shown).toEqual(["/?a=1#x"]);
  expect(takeToken(browser("http://host/", kept))).toBe("s+1");
  expect(takeToken(browser("http://host/"))).toBeUndefined();
});

test("where storage is forbidden, the token lasts as long as the page", () => {
  const closed = browser("http://host/?token=t");
  closed.sessionStorage.getItem = closed.sessionStorage.setItem = () => {
    throw new Error("forbidden");
  };
  expect(takeToken(closed)).toBe("t");
});
