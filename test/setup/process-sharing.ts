// Which test files may run in one process, one after the other: those that start no process or thread and change nothing of
// their own process, nor does any test module that they import. A process of its own costs a file a start of Node.js and
// of vitest, and loads all modules again.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What concerns the whole process, and so the files that run after this one in it. */
const CONCERNS_THE_PROCESS = [
  /node:(child_process|cluster|worker_threads)/,
  /\bvi\.(mock|doMock|stub\w+|spyOn|useFakeTimers)\b/,
  /\bprocess\.((chdir|umask|set\w+id|kill|on|once)\b|exitCode =)/,
  /\bprocess\.env\[[^\]]+\] =|Object\.assign\((process\.env|globalThis)|\bglobalThis\.\w+ =/,
];
const IMPORT = /(?:from|import\() ?"(\.[^"]+)\.js"/g;

/** Returns the paths of the test files below `root` that may share a process, relative to it. */
export function filesThatShareAProcess(root: string): string[] {
  const known = new Map<string, boolean>();
  const mayShare = (path: string): boolean => {
    const earlier = known.get(path);
    if (earlier !== undefined) return earlier;
    // For modules that import each other.
    known.set(path, true);
    const text = readFileSync(join(root, path), "utf8");
    const imported = [...text.matchAll(IMPORT)]
      .map(([, name = ""]) => `${join(dirname(path), name)}.ts`)
      .filter((name) => name.startsWith("test/"));
    const answer = !CONCERNS_THE_PROCESS.some((pattern) => pattern.test(text)) && imported.every(mayShare);
    known.set(path, answer);
    return answer;
  };
  return readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join("test", name))
    .filter((path) => !/^test\/e2e/.test(path) && mayShare(path));
}
