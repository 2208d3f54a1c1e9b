import { expect, test } from "vitest";
import { fetchPast, pointsOf, readingsOf } from "../src/history";

const end = Date.parse("2026-11-22T12:00:00Z");
const wanted = { device: "van-1", metric: "speed", end, length: 600 };
const line = (time: string, speed: unknown) =>
  `{"device":"van-1","time":"${time}","values":{"speed":${JSON.stringify(speed)}}}`;

/** A server that answers by path, and keeps what it was asked. */
function server(answers: Record<string, [status: number, body: string]>) {
  const asked: string[] = [];
  const ask = (path: string): Promise<Response> => {
    asked.push(path);
    const [status, body] = answers[path.split("?")[0] ?? ""] ?? [404, ""];
    return Promise.resolve(new Response(body, { status }));
  };
  return { asked, ask };
}

test("readings come as an array, within an object, or by the line", () => {
  const [a, b] = [line("2026-11-22T11:00:00.000000Z", 1), line("2026-11-22T11:00:01.000000Z", 2)];
  for (const text of [`[${a},${b}]`, `{"readings":[${a},${b}]}`, `${a}\n${b}\n`]) {
    expect(pointsOf(readingsOf(text), "speed")[1]).toEqual([1, 2]);
  }
  expect(readingsOf(a).length).toBe(1);
  expect(readingsOf("")).toEqual([]);
  expect(pointsOf(readingsOf(`[${line("2026-11-22T11:00:00Z", "fast")}]`), "speed")).toEqual([[], []]);
});

test("minutes of the past are its newest readings, in order of time", async () => {
  const { ask, asked } = server({
    "/v1/readings": [200, `[${line("2026-11-22T11:59:00Z", 2)},${line("2026-11-22T11:58:00Z", 1)}]`],
  });
  expect((await fetchPast(ask, wanted))?.[1]).toEqual([1, 2]);
  expect(asked).toEqual([
    "/v1/readings?device=van-1&metric=speed&from=2026-11-22T11%3A50%3A00.000Z&order=desc&limit=10000",
  ]);
});

test("a day is rollups, but for its last hour", async () => {
  const { ask, asked } = server({
    "/v1/readings": [200, `[${line("2026-11-22T11:59:00Z", 2)}]`],
    "/v1/series": [200, `[{"bucket":"2026-11-22T03:00:00.000000Z","avg":7},{"bucket":"2026-11-22T03:01:00.000000Z","avg":null}]`],
  });
  const points = await fetchPast(ask, { ...wanted, length: 86_400 });
  expect(points?.[0]).toEqual([Date.parse("2026-11-22T03:00:30Z") / 1000, Date.parse("2026-11-22T11:59:00Z") / 1000]);
  expect(points?.[1]).toEqual([7, 2]);
  expect(asked[0]).toContain("/v1/series?device=van-1&metric=speed&from=2026-11-21T12%3A00%3A00.000Z&to=2026-11-22T11");
  expect(asked[0]).toContain("bucket=1m");
});

test("without rollups readings must do, and without a database nothing does", async () => {
  const half = server({ "/v1/readings": [200, `[${line("2026-11-22T11:59:00Z", 2)}]`] });
  expect((await fetchPast(half.ask, { ...wanted, length: 86_400 }))?.[1]).toEqual([2]);
  const none = server({ "/v1/readings": [503, "no database"] });
  expect(await fetchPast(none.ask, wanted)).toBeUndefined();
  expect(await fetchPast(() => Promise.reject(new Error("gone")), wanted)).toBeUndefined();
  const broken = server({ "/v1/readings": [200, "<html>"] });
  expect(await fetchPast(broken.ask, wanted)).toBeUndefined();
});
