// The tokens that hold the KEK: each URI with its library and PIN source. In the file, `module` takes precedence over
// the attributes of the URI beside it, and a PIN source is given in one of the two; a URI from the command line takes
// precedence over both.
import { isAbsolute } from "node:path";
import { KmsError } from "../errors.js";
import { defaultPinSource, resolvePinSource, type PinSource } from "./pin-source.js";
import { USER } from "./login-role.js";
import { parsePinSourceName, type PinSourceName } from "./pin-source-name.js";
import { formatPkcs11Uri, type KekUri } from "./pkcs11-uri.js";
import { showPath, type Problems, type SettingPath } from "./problems.js";

export interface TokenSettings {
  readonly uri: KekUri;
  /** Absolute. */
  readonly modulePath: string;
  /** The function that returns the library's functions; undefined for C_GetFunctionList. */
  readonly moduleEntry?: string;
  readonly moduleParameters?: string;
  readonly pin: PinSource;
  /** The user type with which the plugin logs in. */
  readonly userType: number;
  /** The login of commands that change KEKs; undefined if they log in as the plugin does. */
  readonly admin?: { readonly pin: PinSource; readonly userType: number };
}

/**
 * Returns the tokens with the administrator's login in place of the plugin's. The plugin's login becomes `admin`, so
 * that all PIN sources stay known.
 */
export function asAdministrator(tokens: TokenList): TokenList {
  const [first, ...others] = tokens;
  return [exchangeLogins(first), ...others.map(exchangeLogins)];
}

function exchangeLogins(token: TokenSettings): TokenSettings {
  const { pin, userType, admin } = token;
  return admin === undefined ? token : { ...token, ...admin, admin: { pin, userType } };
}

/** Returns all sources of a token's PINs. */
export function pinSourcesOf({ pin, admin }: TokenSettings): PinSource[] {
  return admin === undefined ? [pin] : [pin, admin.pin];
}

export type TokenList = readonly [TokenSettings, ...TokenSettings[]];

/** The valid settings of a token; some may be missing. */
export interface TokenDraft {
  readonly uri?: KekUri | undefined;
  readonly module?: { readonly [Part in "path" | "entry" | "parameters"]?: string | undefined };
  readonly pin?: {
    readonly [Kind in "file" | "env" | "credential" | "unlock" | "custody"]?: string | undefined;
  };
  readonly login?: { readonly role?: number | undefined };
  readonly admin?: {
    readonly role?: number | undefined;
    readonly file?: string | undefined;
    readonly env?: string | undefined;
  };
}

/** The paths of one token's settings, for messages. */
interface TokenPaths {
  readonly uri: SettingPath;
  readonly module: SettingPath;
  readonly pin: SettingPath;
  readonly admin: SettingPath;
}

export interface TokenContext {
  readonly env: NodeJS.ProcessEnv;
  /** The first token's URI came from the command line. */
  readonly uriFromFlag: boolean;
  readonly pinFromStdin: boolean;
  readonly problems: Problems;
}

/** Returns the tokens in the order of the drafts, without those that have problems; adds the problems to `context`. */
export function resolveTokens(drafts: readonly TokenDraft[], context: TokenContext): TokenSettings[] {
  const objectName = drafts[0]?.uri?.object;
  const spellings = new Set<string>();
  return drafts.flatMap((draft, index) => {
    const paths = pathsOf(index);
    if (draft.uri === undefined) return [];
    if (objectName !== undefined && draft.uri.object !== objectName) {
      context.problems.add({
        at: paths.uri,
        text: `names a different KEK than keys.uri; give object=${objectName}`,
      });
    }
    const spelling = formatPkcs11Uri(draft.uri);
    if (spellings.has(spelling)) {
      context.problems.add({ at: paths.uri, text: "repeats another token's URI; remove it" });
    }
    spellings.add(spelling);
    return resolveToken(draft.uri, draft, paths, {
      ...context,
      uriFromFlag: context.uriFromFlag && index === 0,
    });
  });
}

function pathsOf(index: number): TokenPaths {
  const section = (name: string): SettingPath => (index === 0 ? [name] : ["failover", index - 1, name]);
  return {
    uri: index === 0 ? ["keys", "uri"] : section("uri"),
    module: section("module"),
    pin: section("pin"),
    admin: section("admin"),
  };
}

function resolveToken(
  uri: KekUri,
  draft: TokenDraft,
  paths: TokenPaths,
  context: TokenContext,
): TokenSettings[] {
  const { path, entry, parameters } = draft.module ?? {};
  const modulePath = context.uriFromFlag ? (uri.modulePath ?? path) : (path ?? uri.modulePath);
  if (!context.problems.concern([...paths.module, "path"])) {
    checkModulePath(uri, modulePath, paths, context.problems);
  }
  const pin = resolvePin(uri, draft, paths, context);
  if (modulePath === undefined || pin === undefined) return [];
  const admin = resolveAdmin(draft, paths, context);
  return [
    {
      uri,
      modulePath,
      ...(entry !== undefined && { moduleEntry: entry }),
      ...(parameters !== undefined && { moduleParameters: parameters }),
      pin,
      userType: draft.login?.role ?? USER,
      ...(admin !== undefined && { admin }),
    },
  ];
}

function resolveAdmin(
  { admin = {} }: TokenDraft,
  paths: TokenPaths,
  { pinFromStdin, problems }: TokenContext,
): TokenSettings["admin"] {
  const { role, file, env } = admin;
  if (role === undefined && file === undefined && env === undefined) return undefined;
  if (file !== undefined && env !== undefined) {
    problems.add({ at: paths.admin, text: "gives file and env; keep one" });
  }
  const userType = role ?? USER;
  if (pinFromStdin) return { userType, pin: { kind: "stdin" } };
  if (file !== undefined) return { userType, pin: { kind: "file", path: file } };
  return { userType, pin: env === undefined ? { kind: "none" } : { kind: "env", name: env } };
}

function checkModulePath(uri: KekUri, path: string | undefined, paths: TokenPaths, problems: Problems): void {
  if (path === undefined) {
    const problem =
      uri.moduleName === undefined ? "does not name a library" : "has a module-name, which is not supported";
    const section = showPath(paths.module);
    problems.add({
      at: paths.uri,
      text: `${problem}; add module-path=/path/to/library.so to it, or set ${section}.path`,
    });
  } else if (!isAbsolute(path)) {
    problems.add({ at: paths.uri, text: "has a module-path that is not absolute; begin it with /" });
  }
}

function resolvePin(
  uri: KekUri,
  draft: TokenDraft,
  paths: TokenPaths,
  context: TokenContext,
): PinSource | undefined {
  if (context.pinFromStdin) return { kind: "stdin" };
  const given = namesOf(draft);
  if (given.length > 1) {
    const kinds = given.map(({ kind }) => kind).join(" and ");
    context.problems.add({ at: paths.pin, text: `gives ${kinds}; keep one` });
    return undefined;
  }
  if (given[0] !== undefined && uri.pinSource !== undefined && !context.uriFromFlag) {
    const text = `gives ${given[0].kind} although ${showPath(paths.uri)} has a pin-source; keep one`;
    context.problems.add({ at: paths.pin, text });
    return undefined;
  }
  const sealed = draft.pin?.custody;
  const inUri = uri.pinSource === undefined ? undefined : parsePinSourceName(uri.pinSource);
  const fromSection = !(context.uriFromFlag && inUri !== undefined) && given[0] !== undefined;
  const name = fromSection ? given[0] : inUri;
  if (sealed !== undefined) {
    if (name?.kind === "unlock") return { ...name, sealed };
    const text =
      "needs the socket on which custodians unlock the plugin; set unlock beside it, and no other PIN source";
    context.problems.add({ at: [...paths.pin, "custody"], text });
    return undefined;
  }
  try {
    return name === undefined ? defaultPinSource(context.env) : resolvePinSource(name, context.env);
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    context.problems.add({ at: fromSection ? paths.pin : paths.uri, text: error.message });
    return undefined;
  }
}

function namesOf({ pin }: TokenDraft): PinSourceName[] {
  const names: PinSourceName[] = [];
  if (pin?.file !== undefined) names.push({ kind: "file", path: pin.file });
  if (pin?.env !== undefined) names.push({ kind: "env", name: pin.env });
  if (pin?.credential !== undefined) names.push({ kind: "credential", name: pin.credential });
  if (pin?.unlock !== undefined) names.push({ kind: "unlock", path: pin.unlock });
  return names;
}
