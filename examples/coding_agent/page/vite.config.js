import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    rolldownOptions: { output: { entryFileNames: "coder.js", assetFileNames: "coder.[ext]" } },
  },
  server: { proxy: Object.fromEntries(["/api", "/apps", "/.well-known"].map((path) => [path, "http://127.0.0.1:8000"])) },
});
