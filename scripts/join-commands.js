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
/** Loaded before a command: a second copy would have errors of other classes. */
const LOADED_BEFORE = ["main.js", "cli/program.js"].flatMap((name) => [...withImports(join(DIST, name))]);
/** `@kubernetes/client-node` is thousands of modules, which only the commands on Kubernetes objects load. */
const PACKAGES_APART = ["commander", "@kubernetes/client-node"];

/** Keeps every path that a module has relative to itself, and the modules of `apart` in their own files. */
function paths(apart) {
  return {
    name: "paths",
    resolveId: (source, importer) => {
      if (!source.startsWith(".") || importer === undefined) return null;
      const file = join(dirname(importer), source);
      return apart.has(file) ? { id: `./${relative(CLI, file)}`, external: true } : null;
    },
    transform: (code, id) =>
      code.includes("import.meta.url")
        ? code.replaceAll(
            "import.meta.url",
            `new URL(${JSON.stringify(relative(CLI, id))}, import.meta.url).href`,
          )
        : null,
  };
}

/** Replaces a module by one in which everything that it imports is joined; what is loaded later stays in `prefix`-*.js. */
async function joinInto(input, prefix, apart) {
  const bundle = await rolldown({
    input,
    platform: "node",
    external: PACKAGES_APART,
    plugins: [paths(apart)],
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

// One process runs one command, so `serve` need not share files with the others. In files of its own, it loads fewer.
const apart = new Set(LOADED_BEFORE);
const apartFromOthers = new Set([...LOADED_BEFORE, SERVE].filter((file) => file !== COMMANDS));
await joinInto(COMMANDS, "joined", apartFromOthers);
await joinInto(SERVE, "serve", apart);
