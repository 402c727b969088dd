// Joins the modules of the commands, those of npm packages included, in files beside dist/cli/commands.js. Part of the build.
// Loading some 600 files one by one took more than half of the processor time of a start of `serve`, and loading 370 files two
// fifths of that of `keys list`.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
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

/**
 * Makes what is left after the comments are ASCII: V8 keeps a file with any other character in two bytes a character, and
 * takes longer to decode it. Such characters are in strings, templates and regular expressions only, where an escape means
 * the same.
 */
function toAscii(file) {
  const code = readFileSync(file, "utf8");
  const escaped = code.replaceAll(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  writeFileSync(file, escaped);
}

/** Replaces a module by one in which everything that it imports is joined; what is loaded later stays in `prefix`-*.js. */
async function joinInto(input, prefix) {
  const bundle = await rolldown({
    input,
    platform: "node",
    external: PACKAGES_APART,
    plugins: [paths],
    logLevel: "warn",
  });
  const { output } = await bundle.write({
    dir: CLI,
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: `${prefix}-[name].js`,
    comments: false,
    // Each file lists its modules.
    banner: ({ moduleIds }) => moduleIds.map((id) => `// module ${relative(DIST, id)}`).join("\n"),
  });
  for (const { fileName } of output) toAscii(join(CLI, fileName));
  await bundle.close();
  rmSync(`${input}.map`);
}

await joinInto(COMMANDS, "joined");
await joinInto(SERVE, "serve");
