// Joins the modules of the commands, those of npm packages included, in files beside dist/cli/commands.js. Part of the build.
// Loading some 600 files one by one took more than half of the processor time of a start of `serve`, and loading 370 files two
// fifths of that of `keys list`.
import { rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import { rolldown } from "rolldown";

import { withImports } from "./module-imports.js";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const CLI = join(DIST, "cli");
const COMMANDS = join(CLI, "commands.js");
const SERVE = join(CLI, "serve.js");
/**
 * Stay in files of their own: what is loaded before a command, since a second copy would have errors of other classes; and
 * `serve`, since one process runs one command. Sharing no files with the others, it loads fewer.
 */
const APART = new Set([
  ...withImports(join(DIST, "main.js")),
  ...withImports(join(DIST, "cli/program.js")),
  SERVE,
]);
/** `@kubernetes/client-node` is thousands of modules, which only the commands on Kubernetes objects load. */
const PACKAGES_APART = ["commander", "@kubernetes/client-node"];

/** Keeps every path that a module has relative to itself. */
const paths = {
  name: "paths",
  resolveId: (source, importer) => {
    if (!source.startsWith(".") || importer === undefined) return null;
    const file = join(dirname(importer), source);
    return APART.has(file) ? { id: `./${relative(CLI, file)}`, external: true } : null;
  },
  transform: (code, id) =>
    code.includes("import.meta.url")
      ? code.replaceAll(
          "import.meta.url",
          `new URL(${JSON.stringify(relative(CLI, id))}, import.meta.url).href`,
        )
      : null,
};

/** Replaces a module by one in which everything that it imports is joined; what is loaded later stays in `prefix`-*.js. */
async function joinInto(input, prefix) {
  const bundle = await rolldown({
    input,
    platform: "node",
    external: PACKAGES_APART,
    plugins: [paths],
    logLevel: "warn",
  });
  await bundle.write({
    dir: CLI,
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: `${prefix}-[name].js`,
    // Each file lists its modules.
    banner: ({ moduleIds }) => moduleIds.map((id) => `// module ${relative(DIST, id)}`).join("\n"),
  });
  await bundle.close();
  rmSync(`${input}.map`);
}

await joinInto(COMMANDS, "joined");
await joinInto(SERVE, "serve");
