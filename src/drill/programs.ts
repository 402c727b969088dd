// The programs of a cluster that a drill starts, if they are on this machine: etcd, etcdutl and kube-apiserver. Each is asked
// for its version first, so that another program is not taken for one of them.
import { execFile } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { promisify } from "node:util";
import { KmsError } from "../errors.js";
import type { DrillReport } from "../evidence/drill-report.js";
import { truncate } from "../untrusted-text.js";
import { bareEnvironment } from "./private-process.js";

export type Program = DrillReport["programs"][number];

/** The programs that were found. */
export type Programs = { readonly [Name in keyof typeof PROGRAMS]?: Program };

/** The paths that the operator gave. */
export type ProgramPaths = { readonly [Name in keyof typeof PROGRAMS]?: string | undefined };

const VERSION_MS = 20_000;

const PROGRAMS = {
  etcd: { names: ["etcd"], flag: "--etcd", args: ["--version"], version: /^etcd Version: (\S+)/m },
  // Up to etcd 3.5, etcdctl restores snapshots too.
  etcdutl: {
    names: ["etcdutl", "etcdctl"],
    flag: "--etcdutl",
    args: ["version"],
    version: /^(?:etcdutl|etcdctl) version: (\S+)/m,
  },
  apiserver: {
    names: ["kube-apiserver"],
    flag: "--kube-apiserver",
    args: ["--version"],
    version: /^Kubernetes (v\S+)/m,
  },
} as const;

/** Releases whose etcdctl no longer restores a snapshot. */
const ETCDCTL_CANNOT = /^(?:3\.(?:[6-9]|\d\d)|[4-9])/;

/** Finds the programs where the operator says, or in $PATH. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function findPrograms(given: ProgramPaths, folder: string): Promise<Programs> {
  const found: Record<string, Program> = {};
  for (const [key, { names, flag, args, version }] of Object.entries(PROGRAMS)) {
    const path = given[key as keyof ProgramPaths];
    const program = await findProgram(path, names, flag, (at) => versionOf(at, args, version, folder));
    if (program !== undefined) found[key] = program;
  }
  return found;
}

async function findProgram(
  given: string | undefined,
  names: readonly string[],
  flag: string,
  ask: (path: string) => Promise<string>,
): Promise<Program | undefined> {
  if (given !== undefined) {
    const path = resolve(given);
    if (!isExecutable(path)) {
      throw new KmsError("CONFIG_INVALID", `${flag}: ${path} is not a program that this user may run`);
    }
    return checked(path, await asked(path, flag, ask), flag);
  }
  for (const name of names) {
    const path = inPath(name);
    if (path === undefined) continue;
    const version = await asked(path, flag, ask);
    if (!(name === "etcdctl" && ETCDCTL_CANNOT.test(version))) return { name, path, version };
  }
  return undefined;
}

function checked(path: string, version: string, flag: string): Program {
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (name === "etcdctl" && ETCDCTL_CANNOT.test(version)) {
    throw new KmsError("CONFIG_INVALID", `${flag}: etcdctl ${version} restores no snapshots; give etcdutl`);
  }
  return { name, path, version };
}

async function asked(path: string, flag: string, ask: (path: string) => Promise<string>): Promise<string> {
  try {
    return await ask(path);
  } catch (error) {
    if (error instanceof KmsError) throw new KmsError("CONFIG_INVALID", `${flag}: ${error.message}`);
    const { code, message } = error as NodeJS.ErrnoException;
    throw new KmsError("PEER_UNREACHABLE", `${flag}: ${path} cannot be run (${code ?? message})`, error);
  }
}

async function versionOf(
  path: string,
  args: readonly string[],
  pattern: RegExp,
  folder: string,
): Promise<string> {
  const options = {
    cwd: folder,
    env: bareEnvironment(folder),
    timeout: VERSION_MS,
    encoding: "utf8",
  } as const;
  const output = await promisify(execFile)(path, args, options).catch((error: unknown) => {
    // Another program may end with an exit code for such an argument.
    const { stdout, code } = error as { stdout?: string; code?: unknown };
    if (typeof code === "number") return { stdout: stdout ?? "" };
    throw error;
  });
  const version = pattern.exec(output.stdout)?.[1];
  if (version !== undefined) return version;
  const said = truncate(output.stdout.trim(), 80);
  throw new KmsError("CONFIG_INVALID", `${path} does not print the expected version; it prints "${said}"`);
}

function inPath(name: string): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter(isAbsolute);
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
