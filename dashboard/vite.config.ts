import { defineConfig } from "vitest/config";

// The page is served from the binary's root. Files under assets/ carry the hash
// of their content in their names, so the server may let them be cached for
// ever. Nothing is inlined: the Content-Security-Policy forbids it.
export default defineConfig({
  base: "/",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 300,
  },
  // `npm run dev` speaks to a running `millrace up`.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true } } },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
