// Checks the npm packages that ship: packages.js [--write | --advisories]
// Without an argument: each package is pinned to one version, has a hash and an allowed licence, comes from npm's
// registry, runs no install script that was not approved, and is listed in deploy/package/PACKAGES.md. --write writes that
// list. --advisories asks the registry for known vulnerabilities and for the signatures of the installed packages. If the
// registry does not answer, it says so and exits with 3.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const LIST = "deploy/package/PACKAGES.md";
const REGISTRY = "https://registry.npmjs.org/";
/** Permissive licences, which are compatible with Apache-2.0. */
const LICENCES = [
  "0BSD",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "BlueOak-1.0.0",
  "ISC",
  "MIT",
  "Python-2.0",
  "Unlicense",
];
const ANSWER_MS = 20_000;
const NOT_ANSWERED = 3;

const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const manifest = read("package.json");
const shippedDirectly = { ...manifest.dependencies, ...manifest.optionalDependencies };
const problems = [];
const expect = (holds, problem) => {
  if (!holds) problems.push(problem);
};

const shipped = Object.entries(read("package-lock.json").packages)
  .filter(([path, { dev, devOptional }]) => path !== "" && dev !== true && devOptional !== true)
  .map(([path, entry]) => ({ name: path.slice(path.lastIndexOf("node_modules/") + 13), ...entry }))
  .sort((a, b) => (a.name === b.name ? (a.version < b.version ? -1 : 1) : a.name < b.name ? -1 : 1));

function list() {
  const rows = shipped.map(({ name, version, license, hasInstallScript }) => {
    const direct = name in shippedDirectly ? "yes" : "";
    const script = hasInstallScript === true ? (manifest.allowScripts[name] ? "runs" : "does not run") : "";
    return `| ${name} | ${version} | ${license} | ${direct} | ${script} |`;
  });
  return [
    "# npm packages that ship",
    "",
    `${shipped.length} packages from ${REGISTRY}, each accepted only with the SHA-512 in package-lock.json. \`scripts/lint\``,
    "compares this list with that file; `node scripts/packages.js --write` writes it. `scripts/package` writes the same list",
    "as CycloneDX beside the tarball.",
    "",
    "<!-- prettier-ignore -->",
    "| package | version | licence | direct | install script |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
}

function checkAll() {
  for (const [name, version] of Object.entries({ ...shippedDirectly, ...manifest.devDependencies })) {
    expect(/^\d+\.\d+\.\d+$/.test(version), `${name} is not pinned: ${version}`);
  }
  for (const { name, version, license, integrity, resolved, hasInstallScript } of shipped) {
    const what = `${name} ${version}`;
    expect(LICENCES.includes(license), `${what} has the licence ${license}, which is not allowed`);
    expect(/^sha512-/.test(integrity ?? ""), `${what} has no SHA-512`);
    expect(resolved === undefined || resolved.startsWith(REGISTRY), `${what} comes from ${resolved}`);
    expect(
      hasInstallScript !== true || name in manifest.allowScripts,
      `${what} has an install script: decide on it in allowScripts`,
    );
  }
  checkRuntime();
  expect(readFileSync(LIST, "utf8") === list(), `${LIST} is out of date: node scripts/packages.js --write`);
}

/** Node.js is pinned to the same version for every architecture; the types are those of the oldest supported version. */
function checkRuntime() {
  const runtimes = Object.entries(manifest.optionalDependencies).filter(([name]) =>
    name.startsWith("node-linux-"),
  );
  const versions = new Set(runtimes.map(([, version]) => version));
  expect(versions.size === 1, `Node.js is pinned to different versions: ${[...versions].join(", ")}`);
  const oldest = /^>=(\d+)$/.exec(manifest.engines.node)?.[1];
  const types = manifest.devDependencies["@types/node"];
  expect(
    types.split(".")[0] === oldest,
    `@types/node ${types} is not of the oldest supported Node.js, ${oldest}`,
  );
}

/** Returns npm's answer, or prints a line and returns undefined if the registry did not answer. */
function ask(what, args) {
  const { stdout, error } = spawnSync("npm", args, { encoding: "utf8", timeout: ANSWER_MS });
  let answer;
  try {
    answer = JSON.parse(stdout);
  } catch {
    // Without JSON there is no answer.
  }
  if (answer !== undefined && answer.error === undefined && answer.statusCode === undefined) return answer;
  const why = answer?.error?.summary || answer?.message || error?.message || "npm gave no answer";
  console.log(`not checked: ${what}: ${why}`);
  process.exitCode = NOT_ANSWERED;
  return undefined;
}

function askRegistry() {
  const audit = ask("known vulnerabilities", ["audit", "--omit=dev", "--json"]);
  if (audit === undefined) return;
  for (const [name, { severity, range }] of Object.entries(audit.vulnerabilities ?? {})) {
    problems.push(`${name} ${range} has a known vulnerability (${severity}): npm audit --omit=dev`);
  }
  const signatures = ask("signatures", ["audit", "signatures", "--omit=dev", "--json"]);
  for (const { name, version } of signatures?.invalid ?? []) {
    problems.push(`${name} ${version} has an invalid signature: npm audit signatures`);
  }
}

if (process.argv[2] === "--write") writeFileSync(LIST, list());
else if (process.argv[2] === "--advisories") askRegistry();
else checkAll();
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
