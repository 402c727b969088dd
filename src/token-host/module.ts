// The vendor library, loaded once per thread and initialised once per process. PKCS#11 v2.40 section 5.4. A library
// that cannot lock for several threads is initialised for one thread, and its token host opens one lane only.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import pkcs11js, { type PKCS11 } from "pkcs11js";
import type { OpenRequest } from "../hsm/wire-calls.js";
import { rvOf, toFault, TokenFault } from "./ckr.js";
import { adviceFor } from "./load-error.js";
import { inTurn, isMarked, mark } from "./turn.js";
import { describeUser } from "./unreadable-paths.js";

/** Compiled from module-shim.c; the npm package has it for x64 and arm64. */
const MODULE_SHIM = fileURLToPath(new URL(`module-shim-${process.arch}.so`, import.meta.url));
const CKR_FUNCTION_NOT_SUPPORTED = 0x54;
const CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191;
/** CKR_ARGUMENTS_BAD, CKR_NEED_TO_CREATE_THREADS, CKR_CANT_LOCK, and CKR_FUNCTION_NOT_SUPPORTED. */
const ARGUMENTS_REFUSED: ReadonlySet<number | undefined> = new Set([
  0x07,
  0x09,
  0x0a,
  CKR_FUNCTION_NOT_SUPPORTED,
]);

// pkcs11js unloads a library when its object is garbage-collected, even with open sessions: keep it reachable.
const kept: PKCS11[] = [];

/** A library that has been initialised. */
export interface LoadedModule {
  readonly lib: PKCS11;
  /** Whether only one thread may call it, since it refused to lock. */
  readonly oneThread: boolean;
}

/**
 * Loads and initialises the library, while no other thread of this process does: two at once in C_Initialize crash
 * pkcs11js 2.1.7.
 * @param turn see `inTurn`
 * @throws TokenFault MODULE_UNUSABLE when it is not a PKCS#11 module; the CKR row of a refused C_Initialize
 */
export function loadModule(request: OpenRequest, turn: Int32Array<SharedArrayBuffer>): LoadedModule {
  return inTurn(turn, () => {
    const module = loadAndInitialise(request, isMarked(turn));
    mark(turn);
    return module;
  });
}

/** @param isInitialised whether another thread has initialised the library in this process */
function loadAndInitialise(request: OpenRequest, isInitialised: boolean): LoadedModule {
  const lib = load(request);
  kept.push(lib);
  try {
    return { lib, oneThread: initialise(lib, request) };
  } catch (error) {
    // FreeHSM 2.0.0 answers CKR_FUNCTION_FAILED to the second call of a process, and goes on working.
    const isRefusal = isInitialised && answersInfo(lib);
    if (rvOf(error) !== CKR_CRYPTOKI_ALREADY_INITIALIZED && !isRefusal) {
      throw toFault(error, `initialising ${request.modulePath} (C_Initialize) as ${describeUser()}`);
    }
    return { lib, oneThread: false };
  }
}

/**
 * Calls C_Initialize for several threads or, if the library refuses that, for one. Returns whether it is for one.
 * @throws the error of the first call
 */
function initialise(lib: PKCS11, { moduleParameters }: OpenRequest): boolean {
  // pkcs11js 2.1.7 drops the last character of the string.
  const more = moduleParameters === undefined ? {} : { libraryParameters: moduleParameters + " " };
  try {
    lib.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK, ...more });
    return false;
  } catch (error) {
    if (!ARGUMENTS_REFUSED.has(rvOf(error))) throw error;
    try {
      // Behind the shim, this also tries without any arguments.
      lib.C_Initialize({ flags: 0, ...more });
      return true;
    } catch {
      throw error;
    }
  }
}

function answersInfo(lib: PKCS11): boolean {
  try {
    lib.C_GetInfo();
    return true;
  } catch {
    return false;
  }
}

/** Loads the library behind the shim; without the shim, if the library does not need it. */
function load({ modulePath, moduleEntry }: OpenRequest): PKCS11 {
  setVariable("KMS_PKCS11_MODULE", modulePath);
  setVariable("KMS_PKCS11_MODULE_ENTRY", moduleEntry);
  if (moduleEntry === undefined) return loadBehindShim() ?? loadDirectly(modulePath);
  if (!existsSync(MODULE_SHIM)) {
    const text = `module.entry needs ${MODULE_SHIM}, which this installation does not have for ${process.arch}; build the plugin from its source on this architecture`;
    throw new TokenFault(text, { fault: "setup", code: "MODULE_UNUSABLE" });
  }
  try {
    return loadFile(MODULE_SHIM);
  } catch (error) {
    const text =
      rvOf(error) === CKR_FUNCTION_NOT_SUPPORTED
        ? `the PKCS#11 module ${modulePath} has no function ${moduleEntry}; correct module.entry`
        : notLoaded(modulePath, whyNotLoaded(modulePath, error));
    throw new TokenFault(text, { fault: "setup", code: "MODULE_UNUSABLE", cause: error });
  }
}

/**
 * Sets a variable that module-shim.c reads. Only the first lane changes the environment, before the library is loaded.
 * Later lanes find the value already set and change nothing, since a vendor's call in another thread may be reading the
 * environment.
 */
function setVariable(name: string, value: string | undefined): void {
  if (process.env[name] === value) return;
  if (value === undefined) Reflect.deleteProperty(process.env, name);
  else process.env[name] = value;
}

function loadBehindShim(): PKCS11 | undefined {
  try {
    return loadFile(MODULE_SHIM);
  } catch {
    // The shim does not pass the reason on.
    return undefined;
  }
}

function loadDirectly(modulePath: string): PKCS11 {
  try {
    return loadFile(modulePath);
  } catch (error) {
    const text = notLoaded(modulePath, firstLineOf(error));
    throw new TokenFault(text, { fault: "setup", code: "MODULE_UNUSABLE", cause: error });
  }
}

function loadFile(path: string): PKCS11 {
  const lib = new pkcs11js.PKCS11();
  lib.load(path);
  return lib;
}

function notLoaded(modulePath: string, why: string): string {
  return `cannot load the PKCS#11 module ${modulePath}: ${why}; ${adviceFor(why, modulePath)}`;
}

/** Returns the message of dlopen, which the shim does not pass on. */
function whyNotLoaded(modulePath: string, error: unknown): string {
  try {
    loadFile(modulePath);
  } catch (direct) {
    return firstLineOf(direct);
  }
  return firstLineOf(error);
}

function firstLineOf(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : "";
}
