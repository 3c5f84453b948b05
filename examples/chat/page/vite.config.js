import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    rolldownOptions: { output: { entryFileNames: "chat.js" } },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000" } },
});
