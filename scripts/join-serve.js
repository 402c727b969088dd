// Joins the modules that `serve` needs, those of npm packages included, in the file of the command, dist/cli/serve.js. Part of
// the build. Loading some 600 files one by one took more than half of the processor time of a start.
import { readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import { rolldown } from "rolldown";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const SERVE = join(DIST, "cli/serve.js");
/** Loaded before the command: a second copy would have errors of other classes. */
const LOADED_BEFORE = ["main.js", "cli/program.js"].map((name) => join(DIST, name));
const PACKAGES_LOADED_BEFORE = ["commander"];

/** Returns a module and all that it imports, without those that it loads later. */
function withImports(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  for (const [, path] of readFileSync(file, "utf8").matchAll(
    /^(?:import|export) (?:[^;]*? from )?"(\.[^"]*)";$/gm,
  )) {
    withImports(join(dirname(file), path), found);
  }
  return found;
}

const external = new Set(LOADED_BEFORE.flatMap((file) => [...withImports(file)]));

/** A path that a module has relative to itself must stay the same. */
const paths = {
  name: "paths",
  resolveId: (source, importer) => {
    if (!source.startsWith(".") || importer === undefined) return null;
    const file = join(dirname(importer), source);
    return external.has(file) ? { id: `./${relative(dirname(SERVE), file)}`, external: true } : null;
  },
  transform: (code, id) =>
    code.includes("import.meta.url")
      ? code.replaceAll(
          "import.meta.url",
          `new URL(${JSON.stringify(relative(dirname(SERVE), id))}, import.meta.url).href`,
        )
      : null,
};

const bundle = await rolldown({
  input: SERVE,
  platform: "node",
  external: PACKAGES_LOADED_BEFORE,
  plugins: [paths],
});
// What the command loads only when it needs it, such as tracing, stays in files of its own. Each file lists its modules.
await bundle.write({
  dir: dirname(SERVE),
  format: "esm",
  entryFileNames: "serve.js",
  chunkFileNames: "serve-[name].js",
  banner: ({ moduleIds }) => moduleIds.map((id) => `// module ${relative(DIST, id)}`).join("\n"),
});
await bundle.close();
rmSync(`${SERVE}.map`);
