import { defineConfig } from "vite";

// The API process serves dist/ under /dashboard/ with the policy default-src 'self':
// nothing may be inlined, neither as a data: address nor as a script in the page.
export default defineConfig({
  base: "/dashboard/",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    // `npm run dev` against a running system: METERSTREAM_DEV_API=http://127.0.0.1:8000 npm run dev
    proxy: { "/v1": process.env["METERSTREAM_DEV_API"] ?? "http://127.0.0.1:8000" },
  },
});
